"""The native engine with a decoder written by hand: the laws of streams, states and threads, and damage."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import threading
import time
import warnings
from dataclasses import fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.runtime.engine import Engine
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.native.program import Call, Edge, Port, Program, Stage
from balacoon_tk.runtime.options import RuntimeOptions
from native_laws import ONE_THREAD, assert_same_bits
from native_programs import (
    TWO_THREADS,
    assert_damage_is_harmless,
    assert_lawful,
    cut,
    damages,
    feeds_of,
    made,
    store,
    streamed,
    vocoder,
)


@pytest.fixture(scope="module")
def program() -> Program:
    return vocoder()


@pytest.fixture(scope="module")
def engine(program) -> NativeEngine:
    return NativeEngine(program, ONE_THREAD)


def test_a_whole_decoder_streams_bit_for_bit(program) -> None:
    assert_lawful(program, (0, 1, 2, 9, 150))


def test_it_is_an_engine_for_streams(engine) -> None:
    assert isinstance(engine, Engine)
    assert engine.contract.streaming is not None
    assert engine.contract.streaming.outputs[0].hop_length == 8


def test_a_text_and_arrays_are_the_same_program(program, engine) -> None:
    again = Program.from_json(program.to_json(), program.arrays)
    feeds = feeds_of(program, 20)
    assert again.fingerprint == program.fingerprint
    assert_same_bits(NativeEngine(again, ONE_THREAD).whole(feeds), engine.whole(feeds))
    with pytest.raises(ModelError, match="not a native program"):
        Program.from_json("{}", {})


def test_a_state_can_be_stepped_from_twice_and_by_another_engine(program, engine) -> None:
    feeds = feeds_of(program, 30)
    first, state = engine.step(engine.start(), cut(program, feeds, 0, 11), last=False)
    rest = cut(program, feeds, 11, 30)
    other = NativeEngine(program, TWO_THREADS)
    saved = engine.save(state)
    ends = [
        engine.step(state, rest, last=True)[0],
        engine.step(state, rest, last=True)[0],
        other.step(other.load(saved), rest, last=True)[0],
        engine.step(engine.load(saved), rest, last=True)[0],
    ]
    whole = engine.whole(feeds)
    for end in ends:
        assert_same_bits({"samples": np.concatenate([first["samples"], end["samples"]], -1)}, whole)
    fresh, over = engine.load(engine.save(engine.start())), engine.step(state, rest, last=True)[1]
    assert_same_bits(engine.step(fresh, feeds, last=True)[0], whole)
    with pytest.raises(ParameterError, match="over"):
        engine.step(over, rest, last=False)


def test_a_state_goes_on_in_another_process(program, engine, tmp_path) -> None:
    feeds = feeds_of(program, 24)
    first, state = engine.step(engine.start(), cut(program, feeds, 0, 10), last=False)
    rest = cut(program, feeds, 10, 24)["frames"]
    (tmp_path / "program.json").write_text(program.to_json(), encoding="utf-8")
    np.savez(tmp_path / "arrays.npz", **program.arrays)
    np.savez(tmp_path / "state.npz", **engine.save(state))
    np.save(tmp_path / "rest.npy", rest)
    script = """
import sys
from pathlib import Path
import numpy as np
from balacoon_tk.runtime.native.engine import NativeEngine
from balacoon_tk.runtime.native.program import Program
from balacoon_tk.runtime.options import RuntimeOptions
folder = Path(sys.argv[1])
text = (folder / "program.json").read_text(encoding="utf-8")
program = Program.from_json(text, dict(np.load(folder / "arrays.npz")))
engine = NativeEngine(program, RuntimeOptions(n_threads=1))
state = engine.load(dict(np.load(folder / "state.npz")))
samples = engine.step(state, {"frames": np.load(folder / "rest.npy")}, last=True)[0]["samples"]
np.save(folder / "samples.npy", samples)
"""
    subprocess.run([sys.executable, "-P", "-c", script, str(tmp_path)], check=True)
    joined = np.concatenate([first["samples"], np.load(tmp_path / "samples.npy")], -1)
    assert_same_bits({"samples": joined}, engine.whole(feeds))


def test_a_state_of_other_arrays_is_refused(program, engine) -> None:
    _, state = engine.step(engine.start(), feeds_of(program, 9), last=False)
    good = engine.save(state)
    for bad in (
        {"positions": good["positions"]},
        good | {"more": good["rows"]},
        good | {"rows": good["rows"][:-1]},
        good | {"rows": np.append(good["rows"], good["rows"][:1])},
        good | {"rows": good["rows"].astype(np.int8)},
        good | {"positions": good["positions"][:-1]},
        good | {"positions": good["positions"].astype(np.int32)},
        good | {"positions": good["positions"].reshape(1, -1)},
        good | {"positions": good["positions"] + 1},
        good | {"positions": np.zeros_like(good["positions"])},
        {"positions": good["positions"], "rows": good["rows"].tobytes()},
    ):
        with pytest.raises(ParameterError):
            engine.load(bad)  # type: ignore[arg-type]


@damages
@given(st.data())
def test_a_damaged_state_is_refused_or_harmless(program, engine, data: st.DataObject) -> None:
    assert_damage_is_harmless(engine, program, data)


def test_a_step_that_fails_leaves_the_state_as_it_was(program) -> None:
    stage = Stage("pad", "pad", 0, 2, (store(1),), pad_left=6, pad_right=2, padding="reflect")
    short = made(2, stage, arrays={})
    engine, feeds = NativeEngine(short, ONE_THREAD), feeds_of(short, 10)
    _, state = engine.step(engine.start(), cut(short, feeds, 0, 3), last=False)
    with pytest.raises(ModelError, match="too short"):
        engine.step(state, cut(short, feeds, 3, 5), last=True)
    end, _ = engine.step(state, cut(short, feeds, 3, 10), last=True)
    assert_same_bits(end, engine.whole(feeds))


def test_arrays_that_are_missing_or_not_finite_are_refused(program) -> None:
    arrays = dict(program.arrays)
    del arrays["c"]
    with pytest.raises(ModelError, match="'c'"):
        NativeEngine(replace(program, arrays=arrays), ONE_THREAD)
    arrays["c"] = program.arrays["c"].copy()
    arrays["c"][0, 0, 0] = np.nan
    with pytest.raises(ModelError, match="NaN"):
        NativeEngine(replace(program, arrays=arrays), ONE_THREAD)


NUMBERS = st.integers(-3, 9) | st.sampled_from([40, 2**31 - 1, 2**40, -(2**31), 0.5, "1", None])


@settings(max_examples=300, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(st.data())
def test_a_damaged_program_is_refused_or_harmless(program, data: st.DataObject) -> None:
    damaged = json.loads(program.to_json())
    places = [item for part in ("edges", "stages") for item in damaged[part]]
    places += [call for stage in damaged["stages"] for call in stage.get("chain", ())]
    numbers = {f.name for kind in (Edge, Stage, Call) for f in fields(kind) if "int" in str(f.type)}
    written = [(item, key) for item in places for key in sorted(numbers & item.keys())]
    item, key = written[data.draw(st.integers(0, len(written) - 1))]
    item[key] = data.draw(NUMBERS)
    arrays = dict(program.arrays)
    name = sorted(arrays)[data.draw(st.integers(0, len(arrays) - 1))]
    cuts = (np.s_[:], np.s_[:], np.s_[:-1], np.s_[:, :-1], np.s_[..., :-1], 0)
    arrays[name] = arrays[name][cuts[data.draw(st.integers(0, len(cuts) - 1))]]
    try:
        engine = NativeEngine(Program.from_json(json.dumps(damaged), arrays), ONE_THREAD)
        engine.whole(feeds_of(program, 12))
    except ModelError:
        return


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"kind": "unknown"}, "isn't known"),
        ({"source": 4}, "nothing in front of it writes"),
        ({"n_channels": 41}, "has 41 filters from 0 on, of 40"),
        ({"held_back": -1}, "held_back=-1 must be >= 0"),
        ({"n_taps": 0}, "must be at least 1"),
        ({"pad_left": -1}, "crops by its padding"),
        ({"n_phases": 2}, "no transposed convolution"),
        ({"source_channel": 1}, "reads 8 channels of 8"),
        ({"weights": "missing"}, "which isn't there"),
        ({"chain": (store(9),)}, "writes the edge 9"),
        ({"chain": (Call("tanh", out=8, a=0), store(1))}, "the register 8"),
        ({"chain": (Call("sink", out=1, a=0), store(1))}, "'sink' isn't known"),
        ({"chain": (Call("load", out=1, edge=0), store(1))}, "channels from 0 on, of 8"),
        ({"chain": (Call("load", out=1, edge=3), store(1))}, "nothing in front of it"),
        ({"chain": (Call("mul", out=1, a=0, array="a"), store(1))}, "one number for each"),
    ],
)
def test_what_a_program_says_wrong_is_named(program, change, reason) -> None:
    stages = (replace(program.stages[0], **change), *program.stages[1:])
    with pytest.raises(ModelError, match=reason):
        NativeEngine(replace(program, stages=stages), ONE_THREAD)


def test_an_edge_is_written_once(program) -> None:
    stages = (*program.stages[:2], replace(program.stages[2], chain=(store(3),)), *program.stages[3:])
    with pytest.raises(ModelError, match="an input, has made"):
        NativeEngine(replace(program, stages=stages), ONE_THREAD)


def test_an_output_that_a_stage_reads_is_refused(program) -> None:
    outputs = (*program.outputs, Port("inner", 3, (1, 20), (4, 1)))
    with pytest.raises(ModelError, match="edge of its own"):
        NativeEngine(replace(program, outputs=outputs), ONE_THREAD)


@pytest.mark.parametrize("n_threads", [1, 2, 3])
def test_many_streams_in_many_threads(program, n_threads) -> None:
    engine = NativeEngine(program, RuntimeOptions(n_threads=n_threads))
    feeds = [feeds_of(program, 30 + k) for k in range(6)]
    wanted = [engine.whole(each)["samples"] for each in feeds]
    wrong: list[int] = []

    def run(k: int) -> None:
        for size in (1, 7, 40):
            n = feeds[k]["frames"].shape[-1]
            bounds = [*range(0, n, size), n]
            sizes = [stop - start for start, stop in pairwise(bounds)]
            got = streamed(engine, program, feeds[k], sizes)["samples"]
            if not np.array_equal(got, wanted[k]):
                wrong.append(k)

    threads = [threading.Thread(target=run, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_child_of_a_process_whose_threads_run_decodes_as_well(program) -> None:
    engine = NativeEngine(program, RuntimeOptions(n_threads=3))
    feeds = feeds_of(program, 40)
    wanted = engine.whole(feeds)["samples"]
    stop = threading.Event()

    def keep_busy() -> None:
        while not stop.is_set():
            engine.whole(feeds)

    busy = threading.Thread(target=keep_busy)
    busy.start()
    try:
        for _ in range(8):
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)  # from 3.12 on: the child has one thread
                child = os.fork()
            if child == 0:
                code = 1
                try:
                    right: list[bool] = []

                    def decode(right: list[bool] = right) -> None:
                        got = streamed(engine, program, feeds, [8] * 5)["samples"]
                        right.append(np.array_equal(got, wanted))

                    # Several of its threads begin at once, as those of a server that has forked its workers.
                    begun = [threading.Thread(target=decode) for _ in range(4)]
                    for thread in begun:
                        thread.start()
                    for thread in begun:
                        thread.join()
                    code = 0 if right == [True] * 4 else 2
                finally:
                    os._exit(code)
            deadline = time.monotonic() + 20
            while (ended := os.waitpid(child, os.WNOHANG))[0] == 0 and time.monotonic() < deadline:
                time.sleep(0.005)
            if ended[0] == 0:
                os.kill(child, 9)
                os.waitpid(child, 0)
            assert ended == (child, 0)
    finally:
        stop.set()
        busy.join()


def n_threads_now() -> int:
    return len(list(Path("/proc/self/task").iterdir()))


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="counts threads as Linux does")
def test_threads_end_with_their_engine(program) -> None:
    feeds = feeds_of(program, 5)
    NativeEngine(program, RuntimeOptions(n_threads=4)).whole(feeds)
    gc.collect()
    before = n_threads_now()
    for _ in range(3):
        engine = NativeEngine(program, RuntimeOptions(n_threads=4))
        assert n_threads_now() == before  # threads begin with the first step
        _, state = engine.step(engine.start(), feeds, last=False)
        assert n_threads_now() == before + 3
        # An engine that is part of a garbage cycle, and a stream that nobody ends.
        cycle: list[Any] = [engine, engine._executor, state]
        cycle.append(cycle)
        del engine, state, cycle
        gc.collect()
        assert n_threads_now() == before


def test_buffers_between_stages_do_not_grow_with_the_utterance() -> None:
    # 40 000 frames: between stages 160 000 steps of 64 channels would be 41 MB each; in and out are 2.6 MB.
    script = """
import resource
import sys
import numpy as np
from balacoon_tk.runtime.native.engine import NativeEngine
from native_laws import ONE_THREAD
from native_programs import vocoder
engine = NativeEngine(vocoder(128), ONE_THREAD)
frames = np.zeros((1, 8, 40_000), np.float32)
engine.whole({"frames": frames[..., :2000]})
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
engine.whole({"frames": frames})
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) >> (20 if sys.platform == "darwin" else 10))
"""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")])
    }
    done = subprocess.run(
        [sys.executable, "-c", script], check=True, capture_output=True, text=True, env=environment
    )
    assert int(done.stdout) < 20


def test_streams_that_borrow_memory_from_each_other_keep_their_own_rows(engine, program) -> None:
    # Pushes of all sizes, so that rows lie now in memory of their own, now in what another stream has used.
    sizes = ([1, 90, 3, 56], [150], [40, 1, 1, 108], [75, 75])
    feeds = [feeds_of(program, 150) for _ in sizes]
    wanted = [NativeEngine(program, ONE_THREAD).whole(each)["samples"] for each in feeds]
    states, done, given_ = [engine.start() for _ in sizes], [0] * len(sizes), [[] for _ in sizes]
    for push in range(4):
        for k, each in enumerate(sizes):
            if push < len(each):
                part = cut(program, feeds[k], done[k], done[k] + each[push])
                outputs, states[k] = engine.step(states[k], part, last=push == len(each) - 1)
                done[k] += each[push]
                given_[k].append(outputs["samples"])
    for k, samples in enumerate(given_):
        assert np.concatenate(samples, -1).tobytes() == wanted[k].tobytes()
