"""Each stage alone, against the trained model and against what the machine's registers do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from piper import SynthesisConfig

from balacoon_tk import TTS
from balacoon_tk._typing import IntArray
from balacoon_tk.export.sources import SourceVoice, find_source
from balacoon_tk.export.sources.vits_seams import find_seams
from balacoon_tk.frontend import create_frontend
from balacoon_tk.graph.cost import count_multiply_adds
from balacoon_tk.graph.simplify.tidy import lift_constants
from balacoon_tk.graph.walk import ancestors
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.runtime.session import Session
from balacoon_tk.stages.encoder import Encoding
from balacoon_tk.stages.settings import DEFAULT_CHUNK_FRAMES
from balacoon_tk.stages.upsampler import Upsampler
from balacoon_tk.targets.choice import find_compiled
from balacoon_tk.voice.files import VoiceFiles
from peers.files import model_path
from peers.piper_tts import load_piper
from peers.protocol import NOISE_SCALE, NOISE_W
from speed.machine import peak_gflops
from speed.measure import SETTLE_S, Rounds, in_turn, show_progress
from speed.shares import shares
from speed.texts import TEXTS

CHUNK_FRAMES = {"overlap": (64,), "stateful": (64, 32, 16)}
"""Frames in a chunk; smaller ones by overlap take many times as long."""
_SENTENCES = ("60", "200", "440")


def measure(
    rounds: Rounds, *, threads: Sequence[int], sentences: Sequence[str] = _SENTENCES
) -> dict[str, Any]:
    """Time all stages on sentences of several lengths.

    Returns
    -------
    dict
        Seconds, a value a round; nodes and multiply-adds of the graphs; by the number of threads the
        GFLOP/s of registers alone.
    """
    trained = find_source(model_path()).read(model_path(), config=None, progress=lambda stage, share: None)
    original = _trained_encoder()
    found: dict[str, Any] = {
        "frontend": _frontends(rounds),
        "graphs": _graphs(TTS(frontend="espeak"), trained, _n_working_nodes(original), sentences),
        "threads": {},
    }
    for k, n_threads in enumerate(threads):
        tts = TTS(frontend="espeak", n_threads=n_threads)
        found["threads"][str(n_threads)] = {
            "peak_gflops": peak_gflops(n_threads),
            "encoder": _encoders(tts, original, sentences, n_threads=n_threads, rounds=rounds),
            "upsampler": _upsampler(tts, sentences[-1], rounds),
            "decoder": _decoders(tts, sentences[-1], rounds),
            "first_push": _first_push(tts, sentences[0], rounds),
            "whole": _whole(tts, sentences, n_threads=n_threads, rounds=rounds),
            "shares": shares(tts, TEXTS[sentences[-1]], n_rounds=rounds.n_short),
        }
        show_progress("stages", (k + 1) / len(threads))
    return found


def phoneme_ids(tts: TTS, text: str) -> IntArray:
    """Return the ids of a text of one sentence."""
    (sentence,) = tts.frontend.phonemize(text)
    return tts.phoneme_map.encode(sentence.phonemes).phoneme_ids


def _encoding(tts: TTS, text: str) -> Encoding:
    return tts.voice.encoder.encode(phoneme_ids(tts, text), noise_w=NOISE_W)


def _frames(encoding: Encoding) -> Upsampler:
    return Upsampler(
        encoding.encodings, encoding.durations, log_scales=encoding.log_scales, noise_scale=NOISE_SCALE
    )


def _frontends(rounds: Rounds) -> dict[str, dict[str, list[float]]]:
    """Time each text up to its first sentence, which is what the first sound waits for."""
    runs: dict[str, Callable[[], object]] = {}
    for name in ("espeak", "gruut"):
        frontend = create_frontend(name)
        runs |= {
            f"{name} {key}": lambda frontend=frontend, text=text: next(frontend.phonemize(text))
            for key, text in TEXTS.items()
        }
    seconds = in_turn(runs, n_rounds=rounds.n_tiny)
    return {name: {key: seconds[f"{name} {key}"] for key in TEXTS} for name in ("espeak", "gruut")}


def _trained_encoder() -> onnx.ModelProto:
    """Return the trained graph up to what its encoder gives; nothing in it is folded or cut otherwise."""
    model = onnx.load(model_path())
    graph = ir.from_proto(model)
    lift_constants(graph)
    seams = find_seams(graph.graph)
    wanted = [seams.encodings.value, seams.log_scales.value, seams.durations]
    needed = {producer.name for value in ancestors(wanted) if (producer := value.producer()) is not None}
    nodes = [node for node in model.graph.node if node.name in needed or node.op_type == "Constant"]
    del model.graph.node[:], model.graph.output[:]
    model.graph.node.extend(nodes)
    model.graph.output.extend(onnx.ValueInfoProto(name=value.name) for value in wanted)
    return model


def _n_working_nodes(model: onnx.ModelProto) -> int:
    return sum(node.op_type != "Constant" for node in model.graph.node)


def _graphs(
    tts: TTS, trained: SourceVoice, n_trained_encoder_nodes: int, sentences: Sequence[str]
) -> dict[str, Any]:
    """Count nodes and multiply-adds: those of the trained graphs, and those that the encoder executes."""
    # As they are run, which may lie in the cache: those that the voice's manifest names are the plain ones.
    compiled = find_compiled(VoiceFiles(tts.voice.path), tts.voice.options)
    voice = {
        "encoder": compiled.files.model(compiled.info.encoder),
        "decoder": compiled.files.model(compiled.info.decoder),
    }
    work: dict[str, dict[str, int]] = {"encoder": {}, "decoder": {}}
    executed: dict[str, int] = {}
    for key in sentences:
        ids = phoneme_ids(tts, TEXTS[key])
        noise = np.zeros((1, 2, len(ids)), np.float32)
        feeds = {"phoneme_ids": ids[None], "length_scale": np.ones(1, np.float32), "duration_noise": noise}
        executed[key] = _count(voice["encoder"], feeds)
        frames = {
            "frames": np.zeros((1, trained.n_channels, _encoding(tts, TEXTS[key]).n_frames), np.float32)
        }
        for part, model, given in (("encoder", trained.encoder, feeds), ("decoder", trained.decoder, frames)):
            work[part][key] = _count(model, given)
    engine = OrtEngine(voice["decoder"])  # whatever engine the voice has: its graphs are counted
    first_push = engine.save(engine.start()) | {
        "frames": np.zeros((1, trained.n_channels, _first_push_frames(tts)), np.float32),
        engine.streaming.last_input: np.zeros(1, np.int64),
    }
    return {
        "before_first_sound": {
            "encoder": executed[sentences[0]],
            "first_push": _count(voice["decoder"], first_push),
        },
        "n_nodes": {part: len(model.graph.node) for part, model in voice.items()},
        "n_nodes_trained": {
            "encoder": n_trained_encoder_nodes,
            "decoder": len(trained.decoder.graph.node),
        },
        "multiply_adds": work,
        "executed": executed,
    }


def _count(model: onnx.ModelProto, feeds: dict[str, Any]) -> int:
    return sum(node.multiply_adds for node in count_multiply_adds(model, feeds))


def _first_push_frames(tts: TTS) -> int:
    """Return the frames of the smallest first push of a stream without a calibration."""
    decoder = tts.voice.open_decoder("stateful")
    return -(-decoder.lag_samples // tts.voice.manifest.hop_length) + DEFAULT_CHUNK_FRAMES[0]


def _encoders(
    tts: TTS, original: onnx.ModelProto, sentences: Sequence[str], *, n_threads: int, rounds: Rounds
) -> dict[str, dict[str, list[float]]]:
    """Time the voice's encoder, its checks included, against the trained graph's own part."""
    trained = Session(original, RuntimeOptions(n_threads=n_threads))
    durations_name = original.graph.output[-1].name  # as `_trained_encoder` has put it
    found = {}
    for key in sentences:
        ids = phoneme_ids(tts, TEXTS[key])
        feeds = {
            "input": ids[None],
            "input_lengths": np.array([len(ids)]),
            "scales": np.array([NOISE_SCALE, 1.0, NOISE_W], np.float32),
        }
        encode = partial(tts.voice.encoder.encode, ids, noise_w=NOISE_W)
        # Else two encoders would be compared that don't do the same work.
        assert np.array_equal(encode().durations, trained.run(feeds)[durations_name].reshape(-1))
        runs = {"voice": encode, "trained": partial(trained.run, feeds)}
        found[key] = in_turn(runs, n_rounds=rounds.n_tiny)
    return found


def _upsampler(tts: TTS, key: str, rounds: Rounds) -> dict[str, list[float]]:
    encoding = _encoding(tts, TEXTS[key])

    def expand(chunk_frames: int) -> None:
        frames = _frames(encoding)
        for start in range(0, frames.n_frames, chunk_frames):
            frames.window(start, min(start + chunk_frames, frames.n_frames))

    runs = {"at once": partial(expand, encoding.n_frames), "64 frames": partial(expand, 64)}
    return in_turn(runs, n_rounds=rounds.n_short)


def _decoders(tts: TTS, key: str, rounds: Rounds) -> dict[str, list[float]]:
    """Time each strategy and chunk size on the same frames, the upsampler included."""
    frames = _frames(_encoding(tts, TEXTS[key]))

    def decode(strategy: Any, chunk_frames: int) -> None:
        n_samples = sum(len(samples) for samples in tts.voice.render(frames, None, strategy, (chunk_frames,)))
        assert n_samples == frames.n_frames * tts.voice.manifest.hop_length

    runs = {"full": partial(decode, "full", frames.n_frames)} | {
        f"{strategy} {chunk_frames}": partial(decode, strategy, chunk_frames)
        for strategy in tts.strategies
        if strategy != "full"
        for chunk_frames in CHUNK_FRAMES[strategy]
    }
    return in_turn(runs, n_rounds=rounds.n_long)


def _first_push(tts: TTS, key: str, rounds: Rounds) -> list[float]:
    """Time what a stream's first sound asks of the decoder."""
    decoder = tts.voice.open_decoder("stateful")
    frames = _frames(_encoding(tts, TEXTS[key])).window(0, _first_push_frames(tts))

    def push() -> None:
        decoder.reset()
        assert decoder.push(frames[np.newaxis]).size

    return in_turn({"push": push}, n_rounds=rounds.n_tiny)["push"]


def _whole(
    tts: TTS, sentences: Sequence[str], *, n_threads: int, rounds: Rounds
) -> dict[str, dict[str, list[float]]]:
    """Time all from ids to samples, at once, against piper-tts's own inference on the same ids."""
    piper = load_piper(n_threads)
    config = SynthesisConfig(length_scale=1.0, noise_scale=NOISE_SCALE, noise_w_scale=NOISE_W)
    found = {}
    for key in sentences:
        ids = phoneme_ids(tts, TEXTS[key])

        def ours(ids: IntArray = ids) -> int:
            encoding = tts.voice.encoder.encode(ids, noise_w=NOISE_W)
            return sum(len(samples) for samples in tts.voice.render(_frames(encoding), None, "full", (1,)))

        def theirs(ids: IntArray = ids) -> int:
            return len(piper.phoneme_ids_to_audio(ids.tolist(), config))

        assert ours() == theirs()
        # Short ones vary more, and cost little to repeat.
        n_rounds = rounds.n_short if key == "60" else rounds.n_long
        found[key] = in_turn({"voice": ours, "piper-tts": theirs}, n_rounds=n_rounds, settle_s=SETTLE_S)
    return found
