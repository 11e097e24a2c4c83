"""All code on the pages of docs/ is run, with small models in place of the trained ones that pages speak of.

The README's blocks are run by test_readme.py, and `ELSEWHERE` names the pages that have a test of their own.
Of `LONG` pages, most of which export by torch, and of commands that measure, the suite parses what is
written; `make docs-code` runs them.
"""

import asyncio
import contextlib
import inspect
import io
import json
import os
import re
import shutil
import xml.etree.ElementTree as ET
from dataclasses import replace
from types import SimpleNamespace

import httpx
import onnx
import pytest

from balacoon_tk import load_voice
from balacoon_tk.cli._main import COMMANDS, make_parser
from pages import (
    DOCUMENTS,
    EXTRAS,
    ROOT,
    TARGETS,
    commands,
    fences,
    name_of,
    pipelines,
    program_of,
    run_python,
)
from serving import served
from tiny_vits import write_tiny_vits
from tiny_voice import build_tiny_voice, decoder_model, encoder_model, write_voice

README = ROOT / "README.md"
CODE = {name_of(page): page for page in DOCUMENTS if page != README and fences(page, "python", "sh")}
ELSEWHERE = {
    "execution_providers.md": "test_execution_providers.py",
    "writing_a_source.md": "test_writing_a_source.py",
}
# Programs that pages name and that aren't ours: there is nothing of them to try.
STRANGERS = {"aplay", "journalctl", "python3", "scp", "some-llm", "sudo"}
ALL = os.environ.get("DOCS_CODE") == "all"
LONG = {
    *("how_to/deploy.md", "how_to/quantize.md"),
    *("tutorials/codec.md", "tutorials/fine_tuned_voice.md", "tutorials/vocoder.md"),
}


def takes_long(arguments):
    """Say whether a command measures the machine, or speech by models that listen."""
    listens = any("wer" in argument.split(",") for argument in arguments)
    return listens or arguments[0] in ("bench", "calibrate", "compare", "quantize")


class Place:
    """A folder in which a page's code is run, and what it finds there."""

    def __init__(self, folder, request):
        self.folder, self.request = folder, request

    @property
    def tts(self):
        """The default voice."""
        return self.request.getfixturevalue("default_tts")

    def give_voices(self, *places):
        """Put a voice there: a tiny one, or the default one where there are minutes."""
        for place in places:
            if ALL:
                shutil.copytree(self.tts.voice.path, self.folder / place)
            else:
                build_tiny_voice(self.folder / place, streaming=True)

    def give_sentences(self):
        (self.folder / "sentences.txt").write_text("Abc, bed.\nAde, ade.\n", encoding="utf-8")

    def give_piper_voice(self, name, language, config=None):
        """Put a model of random weights there, in the two files of a Piper voice."""
        path = write_tiny_vits(self.folder, name=name)
        beside = path.with_name(f"{name}.json")
        facts = json.loads(beside.read_text()) | {"phoneme_type": "espeak", "espeak": {"voice": language}}
        beside.unlink()
        (self.folder / (config or beside.name)).write_text(json.dumps(facts))


# --- what each page finds, and what is tried of what it defines ----------------------------------------


class Page:
    """Voices and a list of sentences are there; nothing more is tried than the page does."""

    def prepare(self, place):
        """Return names that the page's code takes for granted."""
        place.give_voices("voices/joe", "voices/eve", "joe", "joe-int8")
        place.give_sentences()
        return {}

    def after(self, number, names):
        """Try what the block of that number has defined."""


class Played(Page):
    """Pages that play sound."""

    def prepare(self, place):
        self.played = []
        return {"play": self.played.append}

    def after(self, number, names):
        assert sum(map(len, self.played)) > 0


class Words(Played):
    def prepare(self, place):
        return super().prepare(place) | {"tts": place.tts}


class LiveText(Played):
    def prepare(self, place):
        async def pieces():
            yield "It is so. Is"
            yield " it?"

        async def send(data):
            self.played.append(data)

        own = {"prompt": "Hello?", "language_model": lambda prompt: iter([prompt, " Yes."])}
        return super().prepare(place) | own | {"pieces": pieces(), "send": send}


class LanguageModel(Played):
    def prepare(self, place):
        def event(text):
            return SimpleNamespace(choices=[SimpleNamespace(delta=SimpleNamespace(content=text))])

        return super().prepare(place) | {"answer": [event("So it is,"), event(None), event(" they say.")]}


class Asyncio(Page):
    def after(self, number, names):
        sent = []

        async def send(data):
            sent.append(data)

        async def pieces():
            yield "It is so."

        called = ("say", "say_all", "say_or_refuse", "first_second", "say_pieces")[number]
        given = {"say_all": ["It is so.", "Is it?"], "say_pieces": pieces()}.get(called, "It is so.")
        asyncio.run(names[called](given, send))
        assert len(sent) > 1


class Corpora(Page):
    def prepare(self, place):
        (place.folder / "metadata.csv").write_text("LJ1|Abc|Abc\nLJ2|bed|bed\n", encoding="utf-8")
        return super().prepare(place)

    def after(self, number, names):
        assert names.get("rtf", 1.0) > 0.0


class Listening(Page):
    def prepare(self, place):
        for voice in ("voices/joe", "voices/joe-int8"):
            # A page plays no sound of the 1000 Hz that tiny voices have.
            changes = {"sample_rate": 8000}
            write_voice(place.folder / voice, encoder_model(), decoder_model(), changes=changes)
        return {}

    def after(self, number, names):
        assert names["test"].n_trials == 10


class Native(Page):
    def prepare(self, place):
        onnx.save(decoder_model(), place.folder / "decoder.onnx")
        return {}

    def after(self, number, names):
        assert names["decoder"].lag_samples > 0


class PiperVoice(Page):
    def prepare(self, place):
        place.give_piper_voice("de_DE-thorsten-medium.onnx", "de")
        place.give_sentences()
        return {}


class FineTunedVoice(Page):
    def prepare(self, place):
        from vits_models import write_tiny_vits_model

        place.give_piper_voice("my_voice.onnx", "en-us", config="config.json")
        write_tiny_vits_model(place.folder / "mms-tts-mine")
        place.give_voices("voices/base")
        place.give_sentences()
        return {}

    def after(self, number, names):
        assert names["manifest"].license == "CC-BY-4.0"


class Vocoder(Page):
    def prepare(self, place):
        onnx.save(decoder_model(), place.folder / "vocoder.onnx")
        (place.folder / "vocoder.onnx.json").write_text('{"sample_rate": 1000}')
        return {}


class Served(Page):
    """Pages of the server, which listens where there is a port free."""

    def prepare(self, place):
        return super().prepare(place) | {"texts": ["It is so."]}

    def after(self, number, names):
        if (say := names.pop("say", None)) is not None:
            asyncio.run(self.try_out(say, names))
        if "audio" in names:
            assert names["audio"][0].size > 0

    async def try_out(self, say, names):
        """Call what a page calls `say`: over a WebSocket, or in the loop itself."""
        heard = []

        async def pieces():
            yield "It is"
            yield " so."

        async def send(data):
            heard.append(data)

        given = names | {"pieces": pieces(), "play": heard.append, "text": "So.", "send": send}
        await say(*(given[name] for name in inspect.signature(say).parameters))
        assert b"".join(heard)


# What other pages find is the same for all of them.
PAGES = {
    "corpora.md": Corpora,
    "words.md": Words,
    "listening.md": Listening,
    "live_text.md": LiveText,
    "native.md": Native,
    "serving.md": Served,
    "how_to/asyncio.md": Asyncio,
    "how_to/language_model.md": LanguageModel,
    "how_to/web_service.md": Served,
    "tutorials/fine_tuned_voice.md": FineTunedVoice,
    "tutorials/piper_voice.md": PiperVoice,
    "tutorials/vocoder.md": Vocoder,
}
ON_A_SERVER = {name for name, page in PAGES.items() if page is Served}
ADDRESS = "127.0.0.1:8000"


# --- running --------------------------------------------------------------------------------------------


class Shell:
    """Runs the commands of a block, each by what it is a call of."""

    def __init__(self, cli, folder, address):
        self.cli, self.folder, self.address = cli, folder, address

    def run(self, code):
        for pipeline in pipelines(code):
            for number, command in enumerate(pipeline):
                program, arguments = program_of(command), command[1:]
                if program == "balacoon-tk":
                    self.speak(arguments, stdin=b"So it is. Is it?" if number else b"")
                elif program == "pip":
                    assert arguments[0] == "install"
                    for extras in re.findall(r"\[(.*?)\]", " ".join(arguments)):
                        assert set(extras.split(",")) <= EXTRAS.keys()
                elif program == "make":
                    assert arguments[0] in TARGETS
                elif program == "python":
                    script = next(each for each in arguments if each.endswith(".py"))
                    assert (ROOT / script).is_file()
                elif program == "curl":
                    self.ask(arguments)
                else:
                    assert program in STRANGERS, f"{program}: what is it, and who tries it?"

    def speak(self, arguments, stdin):
        make_parser().parse_args(arguments)
        if (takes_long(arguments) and not ALL) or "--address" in arguments:  # of a cluster
            return
        # The sandbox is another process, which imports all of torch anew; it has tests of its own.
        apart = [] if arguments[0] != "export" or ALL else ["--no-sandbox"]
        done = self.cli(*arguments, *apart, stdin=stdin)
        assert done.status == 0, done.err
        if "-o" in arguments and (made := arguments[arguments.index("-o") + 1]) != "-":
            assert (self.folder / made).exists()

    def ask(self, arguments):
        """Send what curl would."""
        url, data = arguments[0].replace(ADDRESS, self.address), arguments[arguments.index("-d") + 1]
        answer = httpx.post(url, json=json.loads(data))
        assert answer.status_code == 200, answer.text
        assert answer.content.startswith(b"RIFF")


@pytest.mark.voice
@pytest.mark.filterwarnings("ignore:the voice has no ids", "ignore::DeprecationWarning")
@pytest.mark.parametrize("name", sorted(CODE.keys() - ELSEWHERE.keys() - (set() if ALL else LONG)))
def test_the_code_of_a_page_runs(name, tmp_path, request, cli, monkeypatch):
    monkeypatch.chdir(tmp_path)
    # It would go on until somebody ends it.
    monkeypatch.setattr("balacoon_tk.cli.serve._listen", lambda *_: contextlib.nullcontext())
    monkeypatch.setattr(
        "balacoon_tk.cli.serve._serve", lambda args, *_: list(map(load_voice, args.voice or []))
    )
    place, page = Place(tmp_path, request), PAGES.get(name, Page)()
    names = {"__name__": "page", **page.prepare(place)}
    with served(place.tts) if name in ON_A_SERVER else contextlib.nullcontext() as server:
        address = f"127.0.0.1:{server.port}" if server else ADDRESS
        shell, number = Shell(cli, tmp_path, address), 0
        for fence in fences(CODE[name], "python", "sh"):
            if fence.language == "sh":
                shell.run(fence.code)
                continue
            run_python(replace(fence, code=fence.code.replace(ADDRESS, address)), names)
            page.after(number, names)
            number += 1


@pytest.mark.parametrize("name", sorted(LONG))
def test_the_code_of_a_long_page_can_be_read(name):
    for fence in fences(CODE[name], "python"):
        compile(fence.code, name, "exec")
    written = commands("balacoon-tk", CODE[name])
    assert written
    for arguments in written:
        make_parser().parse_args(arguments)


def test_pages_that_are_named_here_have_code():
    assert PAGES.keys() | ELSEWHERE.keys() | LONG <= CODE.keys()
    for page, test in ELSEWHERE.items():
        assert f'"docs/{page}"' in (ROOT / "tests" / test).read_text(encoding="utf-8")


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_examples_of_data_can_be_read(page):
    for fence in fences(page, "json"):
        json.loads(fence.code)
    for fence in fences(page, "xml"):
        ET.fromstring(fence.code)
    assert {fence.language for fence in fences(page)} <= {
        "",
        "text",
        "python",
        "sh",
        "json",
        "xml",
        "ini",
        "math",
    }


@pytest.fixture(scope="module")
def helps():
    """What the help of each command says."""

    def help_of(name):
        with pytest.raises(SystemExit), contextlib.redirect_stdout(io.StringIO()) as out:
            make_parser().parse_args([name, "--help"])
        return out.getvalue()

    return {name: help_of(name) for name in COMMANDS}


@pytest.mark.parametrize("page", DOCUMENTS, ids=name_of)
def test_commands_beside_fences_are_commands_that_there_are(page, helps):
    text = page.read_text(encoding="utf-8")
    for command in re.findall(r"`balacoon-tk ([a-z][^`]*)`", text):
        name, *rest = command.split()
        assert name in COMMANDS, command
        assert all(word in helps[name] for word in rest if word.startswith("--")), command
    for line in re.findall(r"^ {4}(?:\$ )?(balacoon-tk .*)", text, flags=re.MULTILINE):
        for pipeline in pipelines(line):
            make_parser().parse_args(pipeline[0][1:])
