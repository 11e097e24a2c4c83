"""A downloaded model runs no code and writes nothing at export, and takes bounded memory and time.

Most of what a hostile model could make of the process that reads it is played here by a stand-in for that
process's last module: it is confined by the same code, and attacks at once.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import namedtuple
from pathlib import Path

import pytest

from balacoon_tk import errors
from balacoon_tk.errors import MissingExtraError, ModelError, ParameterError, VoiceError
from balacoon_tk.export import (
    Limits,
    NotStreamableError,
    deploy_voice,
    export_voice,
    quantize_voice,
)
from balacoon_tk.export.quantize import halve_voice
from balacoon_tk.export.sandbox import confine, messages
from balacoon_tk.export.sandbox.collect import collect
from balacoon_tk.export.sandbox.messages import Confined, Done, Failed, Progressed, decode, encode
from balacoon_tk.voice.install import bytes_of, check_space
from installed_files import files_of, names_in
from tiny_vits import write_tiny_vits

linux = pytest.mark.skipif(sys.platform != "linux", reason="only Linux can keep a process from it")
posix = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no such limits")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return write_tiny_vits(tmp_path_factory.mktemp("trained"))


HEAD = """
import json, os, sys, time
def export(request, messages, held, missing):
    def say(name, **fields):
        os.write(messages, json.dumps({"is": name, **fields}).encode() + b"\\n")
    def tell(text):
        say("Failed", kind="ModelError", text=str(text), attributes={}, errno=None, filename=None, where="")
        time.sleep(60)
    def tried(attack):
        try:
            attack()
        except OSError as error:
            return error.strerror
        return "done"
    say("Confined", held=held, missing=missing)
"""


def write_child(folder, code):
    """Write what a child imports if it finds it here first."""
    package = folder / "balacoon_tk" / "export" / "sandbox"
    package.mkdir(parents=True)
    for each in (package.parents[1], package.parent, package):
        (each / "__init__.py").touch()
    (package / "child.py").write_text(HEAD + textwrap.indent(textwrap.dedent(code), "    "))


@pytest.fixture
def stand_in(tmp_path, trained, monkeypatch):
    """Let a child do what is given instead of an export; return what `export_voice` then raises."""

    def run(code, *, limits=True, progress=None):
        write_child(tmp_path / "path", code)
        monkeypatch.syspath_prepend(tmp_path / "path")
        (tmp_path / "out").mkdir()
        try:
            with pytest.raises(BaseException) as caught:
                export_voice(trained, tmp_path / "out" / "voice", sandbox=limits, progress=progress)
        finally:
            assert names_in(tmp_path / "out") == []
        return caught.value

    return run


@functools.cache
def held():
    """Return what this system can keep a process from, as one of its own says."""
    code = (
        f"import sys, runpy; m = runpy.run_path({confine.__file__!r}, run_name='m');"
        "print(m['confine'](sys.argv[1], dict(memory_bytes=1 << 32, cpu_s=60, file_bytes=1 << 20))[0])"
    )
    return subprocess.run([sys.executable, "-c", code, "/tmp"], capture_output=True, text=True).stdout


def is_held(what):
    """Whether this system can keep a process from something."""
    return what in held()


# --- what runs code --------------------------------------------------------------------------


@linux
@pytest.mark.filterwarnings("ignore:.*torch.jit:DeprecationWarning")
def test_torchscript_that_overwrites_a_file_is_refused_and_can_not_even_if_it_is_trusted(tmp_path):
    torch = pytest.importorskip("torch", reason='needs pip install "balacoon_tk[export]"')
    victim = tmp_path / "thesis.txt"
    victim.write_bytes(b"years of it...")

    class Writes(torch.nn.Module):
        def __init__(self, path: str):
            super().__init__()
            self.path = path

        def forward(self, mel: torch.Tensor) -> torch.Tensor:
            return mel[:, :1] + torch.from_file(self.path, True, 3).fill_(0.0).sum()

    source = tmp_path / "vocoder.ts"
    script = torch.jit.script(Writes(str(victim)))
    script(torch.zeros(1, 5, 3))
    assert victim.read_bytes().startswith(bytes(12))  # so this is what it does where it is run
    victim.write_bytes(b"years of it...")
    script.save(source)
    source.with_name("vocoder.ts.json").write_text('{"sample_rate": 1000, "n_channels": 5}')
    with pytest.raises(ModelError, match=r"vocoder\.ts: TorchScript is a program, .* trust=True \(--trust"):
        export_voice(source, tmp_path / "voice")
    assert victim.read_bytes() == b"years of it..."
    if is_held("Landlock"):
        with pytest.raises(ModelError, match="Permission denied"):
            export_voice(source, tmp_path / "voice", trust=True, sandbox=True)
        assert victim.read_bytes() == b"years of it..."
    assert names_in(tmp_path) == ["thesis.txt", "vocoder.ts", "vocoder.ts.json"]


# --- a voice comes out of the sandbox as it does without ---------------------------------------


def test_a_voice_from_the_sandbox_is_the_same(trained, tmp_path, caplog):
    seen = []
    with caplog.at_level(logging.INFO, "balacoon_tk.export.sandbox"):
        apart = export_voice(
            trained,
            tmp_path / "apart",
            name="Ada",
            sandbox=True,
            progress=lambda stage, share: seen.append((stage, share)),
        )
    here = export_voice(trained, tmp_path / "here", name="Ada")
    assert names_in(apart) == names_in(here)
    for name in set(names_in(here)) - {"voice.json"}:
        assert (apart / name).read_bytes() == (here / name).read_bytes()
    ours, theirs = (json.loads((folder / "voice.json").read_text()) for folder in (apart, here))
    assert ours.pop("stages") != theirs.pop("stages")  # which say how long it took
    assert ours == theirs
    assert names_in(tmp_path) == ["apart", "here"]
    shares = [share for _, share in seen]
    assert shares == sorted(shares)
    assert {"reading", "verifying", "done"} <= {stage for stage, _ in seen}
    (said,) = caplog.messages
    assert said.startswith("sandbox: ")
    assert "at most 20 min" in said


def test_what_is_wrong_with_a_model_is_said_as_without_the_sandbox(trained, tmp_path):
    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"no graph")
    broken.with_name("broken.onnx.json").write_bytes(trained.with_name(f"{trained.name}.json").read_bytes())
    errors_of = []
    for sandbox in (True, False):
        with pytest.raises(ModelError) as caught:
            export_voice(broken, tmp_path / "voice", sandbox=sandbox)
        errors_of.append((type(caught.value), str(caught.value)))
    assert errors_of[0] == errors_of[1]
    assert "broken.onnx" in errors_of[0][1]


# --- what a confined process can't -------------------------------------------------------------


@linux
@pytest.mark.parametrize(
    ("attack", "what"),
    [
        ("open(victim, 'w')", "Landlock"),
        ("open(victim, 'r+')", "Landlock"),
        ("os.truncate(victim, 0)", "Landlock"),
        ("os.unlink(victim)", "Landlock"),
        ("os.rename(victim, victim + '2')", "Landlock"),
        ("os.symlink('/', victim + '2')", "Landlock"),
        ("os.mkdir(victim + '2')", "Landlock"),
        ("os.link(victim, os.path.dirname(request['out']) + '/link')", "Landlock"),
        ("os.execv('/bin/sh', ['sh', '-c', 'true'])", "Landlock"),
        ("__import__('socket').socket(__import__('socket').AF_INET, 2)", "no network"),
        ("__import__('socket').socket(__import__('socket').AF_UNIX)", "seccomp"),
        ("open(os.path.dirname(request['out']) + '/big', 'wb').truncate(200 << 20)", "memory"),
    ],
)
def test_what_a_hostile_model_may_not(stand_in, tmp_path, attack, what):
    if not is_held(what):
        pytest.skip(f"this system has no {what}")
    victim = tmp_path / "thesis.txt"
    victim.write_text("years of work")
    error = stand_in(f"victim = {str(victim)!r}\ntell(tried(lambda: {attack}))")
    refused = {"Permission denied", "File too large", "Invalid cross-device link"}
    assert str(error) in refused
    assert victim.read_text() == "years of work"
    assert not victim.with_name("thesis.txt2").exists()


@linux
def test_memory_is_bounded(stand_in):
    error = stand_in(
        "try:\n    b = bytearray(900 << 20)\nexcept MemoryError:\n    tell('none')\ntell('got it')",
        limits=Limits(memory_bytes=300 << 20),
    )
    assert str(error) == "none"


@linux
def test_another_process_can_not_be_ended(stand_in):
    if not is_held("Landlock 6") and not is_held("Landlock 7"):
        pytest.skip("this kernel's Landlock keeps nobody from sending signals")
    assert str(stand_in("tell(tried(lambda: os.kill(os.getppid(), 0)))")) == "Operation not permitted"


def test_its_own_folder_can_be_written_to_and_no_secret_is_in_its_environment(stand_in, monkeypatch):
    monkeypatch.setenv("HUB_TOKEN", "secret")
    code = "import tempfile; tempfile.TemporaryFile().write(b'x'); tell(dict(os.environ))"
    said = str(stand_in(code))
    assert "TMPDIR" in said
    assert "secret" not in said


# --- however it ends, and whatever it says -----------------------------------------------------


def test_an_endless_export_is_ended(stand_in):
    start_s = time.monotonic()
    error = stand_in("while True: pass", limits=Limits(wall_s=1.0))
    assert isinstance(error, ModelError)
    assert "took longer than 0 minutes and was ended: sandbox=Limits(wall_s=...)" in str(error)
    assert time.monotonic() - start_s < 20


@posix
def test_an_export_that_takes_too_much_processor_time_is_named(stand_in):
    # As a bound that is used up would: an hour of it is too long for a test.
    error = stand_in("import signal; signal.raise_signal(signal.SIGXCPU)", limits=Limits(wall_s=600))
    assert f"took more than {(600 * os.cpu_count() + 1) / 60:.0f} minutes of processor time" in str(error)


@posix
def test_an_export_that_dies_is_named(stand_in):
    error = stand_in("print('bad alloc\\x1b[2J', file=sys.stderr, flush=True); time.sleep(0.2); os.abort()")
    assert isinstance(error, ModelError)
    assert "was ended by SIGABRT: bad alloc\N{REPLACEMENT CHARACTER}[2J (it may use" in str(error)


def test_an_export_that_fills_the_disk_is_ended(stand_in):
    code = """
    for k in range(30):
        with open(os.path.join(os.path.dirname(request["out"]), str(k)), "wb") as file:
            file.truncate(60 << 20)
    time.sleep(60)
    """
    assert "wrote more than 0.1 GB and was ended" in str(stand_in(code))


@pytest.mark.parametrize(
    "said", ["nonsense", "[]", '{"is": "Exec"}', '{"is": "Progressed"}', "[" * 5000, "x" * (1 << 20)]
)
def test_what_is_no_message_ends_the_export(stand_in, said):
    error = stand_in(f"os.write(messages, {said!r}.encode()[:60000] + b'\\n'); time.sleep(60)")
    assert isinstance(error, ModelError)
    assert "what is no message" in str(error)


def test_a_child_that_floods_and_has_children_of_its_own_leaves_nothing_running(stand_in):
    if os.name != "posix":
        pytest.skip("needs fork")
    code = """
    child = os.fork()
    if not child:
        try:
            os.setsid()
        except OSError:
            pass
        time.sleep(60)
    for k in range(3000):
        say("Progressed", stage=str(child), share=0.5)
    tell(child)
    """
    stages = []

    def stop(stage, share):
        stages.append(stage)
        raise RuntimeError("stop")

    n_threads, start_s = threading.active_count(), time.monotonic()
    assert str(stand_in(code, progress=stop)) == "stop"
    assert threading.active_count() == n_threads
    assert time.monotonic() - start_s < 20
    if is_held("seccomp"):
        end_s = time.monotonic() + 10
        while is_running(int(stages[0])):
            assert time.monotonic() < end_s
            time.sleep(0.01)


def test_an_interrupt_ends_the_export(stand_in, tmp_path):
    pid = tmp_path / "pid"
    code = "say('Progressed', stage=str(os.getpid()), share=0.5); time.sleep(60)"

    def interrupt(stage, share):
        pid.write_text(stage)
        raise KeyboardInterrupt

    assert isinstance(stand_in(code, progress=interrupt), KeyboardInterrupt)
    if os.name == "posix":
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid.read_text()), 0)


@linux
@pytest.mark.parametrize("how", ["closed", "killed"])
def test_a_child_ends_with_its_parent(tmp_path, how):
    write_child(tmp_path, "time.sleep(60)")
    bounds = {"memory_bytes": 1 << 30, "cpu_s": 60, "file_bytes": 1 << 20}
    request = {"folder": str(tmp_path), "bounds": bounds, "path": [str(tmp_path), *sys.path], "export": {}}
    # The parent of the confined process is a process of its own, since that is what dies.
    parent = (
        "import subprocess, sys, time\n"
        f"p = subprocess.Popen([sys.executable, '-P', {confine.__file__!r}], stdin=subprocess.PIPE)\n"
        f"p.stdin.write({json.dumps(request).encode()!r} + b'\\n'); p.stdin.flush()\n"
        "print(p.pid, flush=True)\n"
        "sys.stdin.readline(); p.stdin.close(); time.sleep(60)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", parent],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    pid = int(process.stdout.readline())
    assert b'"held"' in process.stdout.readline()
    if how == "killed":
        process.kill()
        process.wait()
    else:
        process.stdin.write(b"\n")
        process.stdin.flush()
    end_s = time.monotonic() + 20
    while is_running(pid):
        assert time.monotonic() < end_s, "the confined process goes on without its parent"
        time.sleep(0.02)
    process.kill()
    process.communicate()


def is_running(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


# --- messages ----------------------------------------------------------------------------------


def raised(error):
    """Return an error as it comes out of the sandbox."""
    failed = decode(encode(messages.to_failed(error)))
    return messages.to_error(failed, source="model.onnx")


def not_streamable():
    node = namedtuple("Node", "name op_type domain outputs")("lstm", "LSTM", "", ())
    return NotStreamableError(node, "it looks ahead")


@pytest.mark.parametrize(
    "error",
    [
        ParameterError("speakers=['a'] must be 2 names"),
        VoiceError("voice.json: no such file"),
        ModelError("ü \N{SNOWMAN} " + "x" * 5000),
        MissingExtraError("a VitsModel", extra="export"),
        not_streamable(),
        OSError(errno.ENOSPC, "No space left on device", "decoder.onnx"),
        FileNotFoundError(errno.ENOENT, "No such file or directory", "a'b"),
        PermissionError(errno.EACCES, "Permission denied"),
        MemoryError("none left"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_come_out_with_their_type_and_text(error):
    again = raised(error)
    assert type(again) is type(error)
    assert str(again) == str(error)
    assert {**vars(again), "__notes__": None} == {**vars(error), "__notes__": None}


def test_an_error_of_a_library_is_a_model_error_that_names_it():
    again = raised(KeyError("frames\x1b[2J"))
    assert type(again) is ModelError
    assert str(again) == r"model.onnx: can't be exported: KeyError: 'frames\x1b[2J'"
    assert set(errors.__all__) <= messages._ERRORS.keys()


def test_a_message_moves_no_cursor():
    (line,) = (encode(Progressed("\x1b[2J" + "x" * 1000, 7.0)),)
    message = decode(line)
    assert message.stage.startswith("\N{REPLACEMENT CHARACTER}[2Jx")
    assert len(message.stage) == 200
    assert message.share == 1.0
    for each in (Done(), Confined(["a"], []), Failed("KeyError", "text", {}, None, None, "")):
        assert decode(encode(each)) == each


# --- what is left in the folder ----------------------------------------------------------------


@pytest.fixture
def left(tmp_path):
    """A voice as a child leaves it."""
    folder = tmp_path / "voice"
    folder.mkdir()
    files = files_of("a")
    manifest = json.loads(files["voice.json"])
    for info, name in ((manifest["decoder"], "decoder.onnx"), (manifest["encoder"], "encoder.onnx")):
        info["sha256"] = hashlib.sha256(files[name]).hexdigest()
    files["voice.json"] = json.dumps(manifest).encode()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    return folder


def edit(folder, name, **changes):
    manifest = json.loads((folder / "voice.json").read_text())
    manifest[name].update(changes)
    (folder / "voice.json").write_text(json.dumps(manifest))


def swap(folder, name, make):
    (folder / name).rename(folder.parent / name)
    make(folder / name, folder.parent / name)


def test_a_whole_voice_is_collected(left):
    files = collect(left, max_bytes=10_000)
    assert {name: (left / name).read_bytes() for name in names_in(left)} == files


@posix
@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (lambda f: (f / "voice.json").unlink(), "left no file 'voice.json'"),
        (lambda f: (f / "voice.json").write_text("{"), "voice.json"),
        (lambda f: (f / "voice.json").write_bytes(b"\xff"), "left no manifest"),
        (
            lambda f: (f / "decoder.onnx").write_text("x"),
            "'decoder.onnx', which is not what its manifest says",
        ),
        (lambda f: (f / "more").write_text("x"), "no part of the voice: 'more'"),
        (lambda f: (f / "more").mkdir(), "no part of the voice: 'more'"),
        (lambda f: edit(f, "decoder", file="../voice/decoder.onnx"), "no name in its folder|file"),
        (lambda f: swap(f, "decoder.onnx", lambda a, b: a.symlink_to(b)), "left no file 'decoder.onnx'"),
        (lambda f: swap(f, "decoder.onnx", lambda a, b: a.hardlink_to(b)), "which is no plain file"),
        (lambda f: swap(f, "decoder.onnx", lambda a, b: os.mkfifo(a)), "which is no plain file"),
        (lambda f: swap(f, "decoder.onnx", lambda a, b: a.mkdir()), "'decoder.onnx'"),
        (lambda f: (f / "decoder.onnx").write_bytes(bytes(20_000)), "of 20000 bytes: at most"),
    ],
)
def test_what_is_not_the_voice_is_refused(left, spoil, message):
    spoil(left)
    with pytest.raises(ModelError, match=message):
        collect(left, max_bytes=10_000)


@posix
def test_a_folder_that_is_a_link_is_refused(left, tmp_path):
    (tmp_path / "link").symlink_to(left)
    with pytest.raises(ModelError, match="the sandbox left no folder"):
        collect(tmp_path / "link", max_bytes=10_000)


# --- disks ---------------------------------------------------------------------------------------


def test_a_disk_without_room_is_told_of_before_the_work(trained, tmp_path, monkeypatch):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr("shutil.disk_usage", lambda path: usage(10**9, 10**9 - 10**6, 10**6))
    with pytest.raises(ParameterError, match=r"out='.*voice' needs about 34 MB, and .* has 1 MB free"):
        export_voice(trained, tmp_path / "new" / "voice")
    for make, options in ((halve_voice, {}), (quantize_voice, {}), (deploy_voice, {"form": "ort"})):
        with pytest.raises(ParameterError, match=r"out='.*voice' needs about 34 MB, and .* has 1 MB free"):
            make(trained, tmp_path / "new" / "voice", **options)
    assert names_in(tmp_path) == []
    monkeypatch.setattr("shutil.disk_usage", lambda path: (_ for _ in ()).throw(OSError("not here")))
    check_space(tmp_path / "voice", trained)


@posix
def test_a_disk_that_is_full_halfway_leaves_nothing(tmp_path):
    # A limit on the size of files fails as a disk without room does, at the same calls.
    code = f"""
import resource, signal
from pathlib import Path
from balacoon_tk.voice.install import install
from installed_files import files_of
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
for name in ("voice", "voice.addon"):
    try:
        files = files_of("a") | {{"weights.bin": bytes(9000)}}
        install(files, Path({str(tmp_path)!r}) / name, overwrite=False)
    except OSError as error:
        print(error.errno)
"""
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.stdout.split() == [str(errno.EFBIG)] * 2, done.stderr
    assert names_in(tmp_path) == []


def test_the_size_of_a_model_is_that_of_its_files(tmp_path):
    for name, n in (("model.onnx", 10), ("model.onnx.data", 100), ("model_fp16.onnx", 5000)):
        (tmp_path / name).write_bytes(bytes(n))
    assert bytes_of(tmp_path / "model.onnx") == 110
    assert bytes_of(tmp_path) == 5110
    assert bytes_of(tmp_path / "none") == 0
    bounds = Limits(wall_s=60).of_model(tmp_path)
    assert (bounds.wall_s, bounds.cpu_s) == (60, 60 * os.cpu_count() + 1)
    with pytest.raises(ParameterError, match=r"wall_s=0 must be > 0, or None"):
        Limits(wall_s=0)


@posix
def test_ctrl_c_in_a_terminal_ends_command_and_sandbox(trained, tmp_path):
    command = [sys.executable, "-m", "balacoon_tk", "export", str(trained), "-o", str(tmp_path / "voice")]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, start_new_session=True)
    while not names_in(tmp_path):
        assert process.poll() is None
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, b"")
    assert names_in(tmp_path) == []


def test_a_child_that_nobody_asks_for_anything_ends():
    for sent in (b"", b'{"folder": '):
        run = [sys.executable, "-P", confine.__file__]
        assert subprocess.run(run, input=sent, timeout=60, check=False).returncode == 0
