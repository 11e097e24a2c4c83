"""Which frontend a name stands for, and what importing the package costs."""

import json
import subprocess
import sys

import pytest

from balacoon_tk.errors import MissingExtraError, ParameterError
from balacoon_tk.frontend import (
    BACKENDS,
    CharacterFrontend,
    EspeakFrontend,
    GruutFrontend,
    Sentence,
    create_frontend,
)
from balacoon_tk.frontend.backends import espeak


@pytest.fixture
def no_piper(monkeypatch: pytest.MonkeyPatch) -> None:
    espeak._bridge.cache_clear()
    monkeypatch.setitem(sys.modules, "piper", None)


@pytest.fixture
def no_gruut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gruut", None)


def test_importing_the_frontends_imports_no_backend() -> None:
    code = (
        "import sys, json; before = set(sys.modules); "
        "from balacoon_tk.frontend import create_frontend, Sentence; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    output = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout
    modules = json.loads(output)
    assert "balacoon_tk.frontend.registry" in modules
    assert not {"gruut", "piper", "dateparser", "networkx", "sqlite3"}.intersection(modules)
    # Each is imported with the first frontend that it makes.
    backends = {f"balacoon_tk.frontend.backends.{name}" for name in ("gruut", "espeak")}
    assert not backends.intersection(modules)


def test_auto_takes_espeak_where_it_is_installed() -> None:
    pytest.importorskip("piper.espeakbridge")
    frontend = create_frontend(language="en-gb-x-rp")
    assert isinstance(frontend, EspeakFrontend)
    assert frontend.voice == "en-gb-x-rp"


@pytest.mark.usefixtures("no_piper")
@pytest.mark.parametrize("language", ["en-us", "en-us+f3", "en-gb-x-rp", "en"])
def test_auto_takes_gruut_otherwise(language: str) -> None:
    pytest.importorskip("gruut")
    frontend = create_frontend("auto", language=language)
    assert isinstance(frontend, GruutFrontend)
    assert frontend.language == "en-us"


@pytest.mark.usefixtures("no_piper")
def test_auto_names_the_extra_that_has_the_language() -> None:
    pytest.importorskip("gruut")
    with pytest.raises(MissingExtraError, match=r"language='cmn' needs .*balacoon_tk\[espeak\]"):
        create_frontend(language="cmn")


@pytest.mark.usefixtures("no_piper", "no_gruut")
def test_auto_without_any_backend_names_the_permissive_one() -> None:
    with pytest.raises(MissingExtraError, match=r"balacoon_tk\[voice\]"):
        create_frontend()


@pytest.mark.usefixtures("no_piper", "no_gruut")
@pytest.mark.parametrize(("backend", "extra"), [("espeak", "espeak"), ("gruut", "voice")])
def test_named_backends_raise_their_own_error(backend: str, extra: str) -> None:
    with pytest.raises(MissingExtraError) as caught:
        create_frontend(backend)
    assert caught.value.extra == extra


def test_an_unknown_voice_is_not_taken_for_a_missing_package() -> None:
    pytest.importorskip("piper.espeakbridge")
    with pytest.raises(ParameterError, match="voice='nowhere'"):
        create_frontend(language="nowhere")


@pytest.mark.parametrize("backend", ["auto", "text"])
def test_voices_trained_on_text_get_characters(backend: str) -> None:
    assert isinstance(create_frontend(backend, phoneme_type="text"), CharacterFrontend)


@pytest.mark.parametrize(
    ("backend", "phoneme_type", "match"),
    [
        (
            "festival",
            "espeak",
            "backend='festival' must be one of auto, espeak, gruut for phoneme_type='espeak'",
        ),
        ("text", "espeak", "backend='text' must be one of auto, espeak, gruut"),
        ("espeak", "text", "backend='espeak' must be one of auto, text for phoneme_type='text'"),
        ("auto", "pinyin", "phoneme_type='pinyin' must be one of espeak, text"),
    ],
)
def test_what_does_not_exist_or_fit_is_refused(backend: str, phoneme_type: str, match: str) -> None:
    with pytest.raises(ParameterError, match=match):
        create_frontend(backend, phoneme_type=phoneme_type)


def test_the_registry_cannot_be_changed_by_accident() -> None:
    with pytest.raises(TypeError):
        BACKENDS["espeak"]["new"] = CharacterFrontend  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "sentences"),
    [
        ("Été. ¿Sí?", [("Été.", "e\u0301te\u0301."), ("¿Sí?", "¿si\u0301?")]),
        ("A—b… c 😀!", [("A—b… c!", "a—b… c!")]),
        ("Say [[X Y]], Z", [("Say [[X Y]], Z", "say X Y, z")]),
        ("!", []),
    ],
)
def test_characters_are_lower_case_and_decomposed(text: str, sentences: list[tuple[str, str]]) -> None:
    expected = [Sentence(text, tuple(phonemes)) for text, phonemes in sentences]
    assert list(CharacterFrontend().phonemize(text)) == expected
