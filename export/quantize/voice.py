"""From a voice to a smaller and faster one: calibrate, try mixtures, judge them, put the fastest in place."""

from __future__ import annotations

import hashlib
import os
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from balacoon_tk import TTS
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.quantize.dynamic import quantize_products
from balacoon_tk.export.quantize.encoder_cost import measure_encoder
from balacoon_tk.export.quantize.equalize import equalize
from balacoon_tk.export.quantize.judging import Judge, Spoken, decode, make_frames, measure_speedup
from balacoon_tk.export.quantize.mixtures import (
    Block,
    find_blocks,
    leave_out_blocks,
    measure_blocks,
    quantize_layers,
    tensors_to_calibrate,
)
from balacoon_tk.export.quantize.pareto import Budget, BudgetError, Candidate, Frontier, summarize
from balacoon_tk.export.quantize.pause_gain import add_pause_gain, block_samples, measure_noise
from balacoon_tk.export.quantize.ranges import CalibrationMethod, choose_range, collect_histograms
from balacoon_tk.export.quantize.scheme import Range
from balacoon_tk.graph.streaming import make_streaming, streaming_spec
from balacoon_tk.graph.streaming.equivalence import verify_streaming
from balacoon_tk.metrics._extra import import_eval
from balacoon_tk.metrics._journal import Journal
from balacoon_tk.metrics.sentences import check_sentences, plain_sentences
from balacoon_tk.runtime.options import RuntimeOptions
from balacoon_tk.runtime.ort_engine import OrtEngine
from balacoon_tk.stages.encoder import Encoder
from balacoon_tk.targets.make_plain import make_plain
from balacoon_tk.targets.ort_cpu.optimize import Optimized
from balacoon_tk.voice.files import MANIFEST_FILE, read_member
from balacoon_tk.voice.install import check_target, install
from balacoon_tk.voice.manifest import Manifest, StreamingInfo
from balacoon_tk.voice.voice import load_voice

Progress = Callable[[str, float], None]
Share = Callable[[float], None]

FRONTIER_FILE = "quantization.json"

_LEAST_FRAMES = 400
_N_CALIBRATED, _N_FOR_BLOCKS, _N_ENCODED, _N_FIRST, _N_JUDGED = 16, 2, 6, 10, 50  # sentences
_N_CANDIDATES = 4
_ONE_STEP = 2 / 255
"""Of a byte over the range of samples: what a rounding that falls the other way may do to one of them."""
_N_LISTENERS = 2
"""Threads that judge; tracking of pitch keeps one busy while a recogniser listens in the other."""
_JUDGES = ("librosa", "speechmos.dnsmos", "faster_whisper", "jiwer", "whisper_normalizer.english")
_HOPELESS = 0.5
"""Beyond the budget by this share of it, after the first sentences."""
_AS_IT_IS, _CHOSEN = "fp32", "chosen"

_CALIBRATED, _SENSED, _JUDGED, _VERIFIED = 0.05, 0.15, 0.7, 0.95


@dataclass(frozen=True, slots=True)
class Quantized:
    """A voice that was made, and what it was chosen from."""

    path: Path
    frontier: Frontier


def quantize_voice(
    voice: str | os.PathLike[str],
    out: str | os.PathLike[str],
    *,
    sentences: Sequence[str] | None = None,
    max_wer_increase: float | None = 0.01,
    max_dnsmos_drop: float | None = 0.05,
    max_lsd_db: float | None = None,
    method: CalibrationMethod = "percentile",
    clipped_share: float = 1e-4,
    quantize_encoder: bool = True,
    seed: int = 0,
    work_folder: str | os.PathLike[str] | None = None,
    frontend: str = "auto",
    n_threads: int | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Quantized:
    """Make the fastest voice whose quality stays within a budget, its graphs in int8.

    Channels are scaled to like extents first. Each block of convolutions is quantized alone to see what it
    loses, and the blocks that cost most quality are left out one by one. The mixtures that this gives are
    timed in turn with the voice as it is and judged on sentences, until one is within the budget; then
    that one with the encoder's products in int8 too, at the durations that the voice's own encoder says.
    Streamed and whole samples of the result agree, as they do before.

    Parameters
    ----------
    voice : path
        A voice folder or an .addon file.
    out : path
        Where the quantized voice goes: a folder, or a file ending in ``.addon``.
    sentences : sequence of str, optional
        What calibrates and what is judged, 50 of them at most; the 100 plain sentences that come with the
        toolkit if None.
    max_wer_increase, max_dnsmos_drop, max_lsd_db : float, optional
        The budget: share of words more that Whisper tiny.en gets wrong, points of DNSMOS, log-spectral
        distance in dB. None limits nothing.
    method : {"percentile", "minmax", "entropy"}
        How the range of a tensor is chosen.
    clipped_share : float
        In [0, 0.5): what ``percentile`` clips at either end.
    quantize_encoder : bool
        Whether the encoder may be in int8 too. A voice that keeps its own says the same durations, so its
        samples can be compared with those of before.
    seed : int
        Of the prosody and the noise in all sentences.
    work_folder : path, optional
        Keeps what is measured, so that a search that was stopped goes on with the same call.
    frontend : str
        What turns the sentences into phonemes.
    n_threads : int, optional
        Threads that one run may use; speed is measured with them.
    overwrite : bool
        Whether a voice that is at `out` is replaced.
    progress : callable, optional
        Called with the stage's name and the share of the whole that is done, from 0 to 1.

    Returns
    -------
    Quantized
        The path, and the frontier: speed, size and quality of every candidate.

    Raises
    ------
    BudgetError
        If no candidate is within the budget; nothing is installed then.
    ParameterError
        If an argument is wrong, there are too few frames to calibrate on, or something is at `out`.
    ModelError
        If the voice is quantized already, or its decoder has nothing to quantize.
    VoiceError
        If the voice can't be loaded.
    MissingExtraError
        If the extra `eval` isn't installed.
    """
    target, source = Path(out), Path(voice)
    budget = Budget(max_wer_increase, max_dnsmos_drop, max_lsd_db)
    check_target(target, overwrite=overwrite)
    for module in _JUDGES:
        import_eval(module, what="quantizing")  # now, and not minutes later
    texts = plain_sentences() if sentences is None else check_sentences(sentences)
    tts = TTS(load_voice(source, n_threads=n_threads), frontend=frontend)
    manifest = tts.voice.manifest
    if manifest.decoder.precision != _AS_IT_IS:
        raise ModelError(f"{source}: quantized already ({manifest.decoder.precision}): take the one before")
    settings = {
        "program": version("balacoon_tk"),
        "voice": f"{manifest.encoder.sha256} {manifest.decoder.sha256}",
        "sentences": hashlib.sha256("\n".join(texts).encode()).hexdigest(),
        "method": f"{method} {clipped_share}",
        "seed": seed,
        "n_threads": n_threads,
    }
    with Journal(work_folder, settings) as journal:
        search = _Search(tts, texts, budget, journal, seed, n_threads, progress or _silent)
        frontier = search.run(method, clipped_share, quantize_encoder=quantize_encoder)
        return Quantized(search.install(frontier, target, overwrite=overwrite), frontier)


class _Search:
    def __init__(
        self,
        tts: TTS,
        texts: Sequence[str],
        budget: Budget,
        journal: Journal,
        seed: int,
        n_threads: int | None,
        report: Progress,
    ) -> None:
        self._tts, self._budget, self._journal = tts, budget, journal
        self._judge_of = Judge(tts.get_sampling_rate())
        self._seed, self._n_threads, self._report = seed, n_threads, report
        report("reading sentences", 0.0)
        self._spoken = make_frames(tts, texts, seed=seed)
        n_frames = sum(spoken.n_frames for spoken in self._spoken)
        if n_frames < _LEAST_FRAMES:
            raise ParameterError(
                f"sentences give {n_frames} frames to calibrate on, which must be >= {_LEAST_FRAMES}"
            )
        voice = tts.voice
        self._file = read_member(voice.path, voice.manifest.decoder.file)
        self._plain = make_plain(onnx.load_model_from_string(self._file))
        self._encoder_file = read_member(voice.path, voice.manifest.encoder.file)
        self._encoder: onnx.ModelProto | None = None
        """In bytes, once that was tried."""
        self._ranges: dict[str, Range] = {}
        self._made: dict[tuple[str, ...], Optimized] = {}
        self._judged: dict[str, dict[int, dict[str, Any]]] = {}

    def run(self, method: CalibrationMethod, clipped_share: float, *, quantize_encoder: bool) -> Frontier:
        """Try the mixtures, the one with most in bytes first, until one is within the budget."""
        blocks, mixtures = self._sense(find_blocks(self._plain), method, clipped_share)
        tried: list[Candidate] = []
        span = (_JUDGED - _SENSED) / len(mixtures)
        for k, mixture in enumerate(mixtures):
            start = _SENSED + k * span
            self._report("timing", start)
            candidate = self._time(mixture, blocks)
            if candidate.speedup <= 1.0:
                tried.append(replace(candidate, note="dropped: slower"))
                continue
            tried.append(self._judge(candidate, self._spoken, start, start + span))
            if tried[-1].note == _CHOSEN:
                break
        if tried[-1].note == _CHOSEN and quantize_encoder:
            with_encoder = self._quantize_encoder(tried[-1])
            if with_encoder is not None:
                if with_encoder.note == _CHOSEN:
                    tried[-1] = replace(tried[-1], note="within the budget")
                tried.append(with_encoder)
        taken = [each.name for each in tried if each.note == _CHOSEN]
        chosen = taken[-1] if taken else None
        reference = self._as_it_is()
        reference = replace(
            reference, figures=self._figures(_AS_IT_IS), n_sentences=self._n_judged(_AS_IT_IS)
        )
        frontier = Frontier(self._tts.voice.manifest.name, self._budget, (reference, *tried), chosen, blocks)
        if chosen is None:
            raise BudgetError(frontier)
        return frontier

    def install(self, frontier: Frontier, target: Path, *, overwrite: bool) -> Path:
        """Make the chosen candidate a voice and put it in place."""
        self._report("verifying", _VERIFIED)
        chosen = next(each for each in frontier.candidates if each.name == frontier.chosen)
        made = self._quantized(chosen.layers)
        plain = made.model
        model = self._finished(plain)
        manifest, streaming = self._tts.voice.manifest, None
        if manifest.decoder.streaming is not None:
            utterances = [spoken.feeds[0] for spoken in self._spoken[:2]]
            check = verify_streaming(plain, model, utterances=utterances, tolerance=_ONE_STEP)
            spec = streaming_spec(model)
            streaming = StreamingInfo(spec.outputs[0].lag, spec.n_state_bytes, check.max_abs_diff)
        data = model.SerializeToString(deterministic=True)
        decoder = replace(
            manifest.decoder,
            sha256=hashlib.sha256(data).hexdigest(),
            streaming=streaming,
            passes=(*(name for name in manifest.decoder.passes if name != "keep_blocked"), *made.passes),
            precision="int8",
        )
        measured = {f"quantized_{name}": value for name, value in chosen.figures.items()}
        measured |= {"quantized_speedup": chosen.speedup, "quantized_size_ratio": chosen.size_ratio}
        encoder, encoder_data = manifest.encoder, self._encoder_file
        if chosen.encoder_speedup > 1.0 and self._encoder is not None:
            encoder_data = self._encoder.SerializeToString(deterministic=True)
            encoder = replace(
                encoder,
                sha256=hashlib.sha256(encoder_data).hexdigest(),
                passes=(*encoder.passes, quantize_products.__name__),
            )
            measured["quantized_encoder_speedup"] = chosen.encoder_speedup
            measured["quantized_changed_durations"] = chosen.changed_durations
        text = Manifest.to_json(
            replace(
                manifest,
                encoder=encoder,
                decoder=decoder,
                stages=(),  # they are of the voice that was exported; the frontier is of this one
                provenance={**manifest.provenance, "quantizer": f"balacoon_tk {version('balacoon_tk')}"},
                verified={**manifest.verified, **measured},
            )
        )
        files = {
            manifest.encoder.file: encoder_data,
            manifest.decoder.file: data,
            FRONTIER_FILE: frontier.to_json().encode(),
            MANIFEST_FILE: text.encode(),
        }
        install(files, target, overwrite=overwrite)
        self._report("done", 1.0)
        return target

    def _sense(
        self, blocks: Sequence[Block], method: CalibrationMethod, clipped_share: float
    ) -> tuple[tuple[Block, ...], tuple[tuple[Block, ...], ...]]:
        """Return the blocks with what each loses alone, and the mixtures of them that are worth a try."""
        utterances = [feeds for spoken in _spread(self._spoken, _N_CALIBRATED) for feeds in spoken.feeds]
        self._plain = equalize(self._plain, utterances)
        names = tensors_to_calibrate(self._plain, blocks)
        histograms = collect_histograms(
            self._plain, utterances, names, progress=self._span("calibrating", 0.0, _CALIBRATED)
        )
        self._ranges = {
            name: choose_range(histogram, method, share=clipped_share)
            for name, histogram in histograms.items()
        }
        few = [
            spoken.feeds[0] for spoken in _spread(self._spoken[: len(self._spoken) // 2 or 1], _N_FOR_BLOCKS)
        ]
        n_left_out = _N_CANDIDATES - 1 if self._budget.is_limited else 0
        key = f"blocks, {n_left_out} left out"
        known = self._journal.get(key, 0)
        if known is None:
            halfway = (_CALIBRATED + _SENSED) / 2
            given = self._plain, blocks, self._ranges, few
            alone = measure_blocks(*given, progress=self._span("trying each block", _CALIBRATED, halfway))
            chain = leave_out_blocks(
                *given, n_left_out, progress=self._span("leaving out blocks", halfway, _SENSED)
            )
            known = {
                "lsd_db": {block.name: block.lsd_db for block in alone},
                "mixtures": [[block.name for block in mixture] for mixture in chain],
            }
            self._journal.add(key, 0, known)
        measured = {block.name: replace(block, lsd_db=known["lsd_db"][block.name]) for block in blocks}
        mixtures = tuple(tuple(measured[name] for name in mixture) for mixture in known["mixtures"])
        return tuple(measured.values()), mixtures

    def _span(self, what: str, start: float, stop: float) -> Share:
        """Return what is called with the share of a stage that is done."""
        return _share(lambda share: self._report(what, share), start, stop)

    def _as_it_is(self) -> Candidate:
        return Candidate(_AS_IT_IS, (), 1.0, 1.0, len(self._file), 1.0, {})

    def _time(self, mixture: Sequence[Block], blocks: Sequence[Block]) -> Candidate:
        left_out = [block.name for block in blocks if block not in mixture]
        name = "int8" if not left_out else f"int8 but {', '.join(left_out)}"
        layers = tuple(layer for block in mixture for layer in block.layers)
        model = self._finished(self._quantized(layers).model)
        n_bytes = model.ByteSize()
        known = self._journal.get(f"speed of {name}", 0)
        if known is None:
            spoken = _spread(self._spoken[: len(self._spoken) // 2 or 1], 1)
            whole, in_chunks = measure_speedup(
                self._tts.voice.decoder, model, spoken, n_threads=self._n_threads
            )
            known = {"whole": whole, "in_chunks": in_chunks}
            self._journal.add(f"speed of {name}", 0, known)
        ratio = n_bytes / len(self._file)
        return Candidate(name, layers, known["whole"], known["in_chunks"], n_bytes, ratio, {})

    def _quantized(self, layers: tuple[str, ...]) -> Optimized:
        """Return the decoder with some layers in bytes, and the gain for its pauses."""
        if layers not in self._made:
            model = quantize_layers(self._plain, layers, self._ranges)
            passes: tuple[str, ...] = ("to_bytes",)
            block = block_samples(self._tts.voice.manifest.hop_length)
            if block is not None:
                own, graph = (
                    self._tts.voice.decoder,
                    OrtEngine(model, RuntimeOptions(n_threads=self._n_threads)),
                )
                few = _spread(self._spoken, _N_CALIBRATED)
                noise = measure_noise(
                    [decode(graph, each) for each in few], [decode(own, each) for each in few], block
                )
                if noise:
                    model, passes = add_pause_gain(model, noise, block), ("to_bytes", "pause_gain")
            self._made[layers] = Optimized(model, passes)
        return self._made[layers]

    def _finished(self, model: onnx.ModelProto) -> onnx.ModelProto:
        return model if self._tts.voice.manifest.decoder.streaming is None else make_streaming(model)

    def _quantize_encoder(self, candidate: Candidate) -> Candidate | None:
        """Judge a candidate with the encoder in bytes as well; None if nothing in that can be."""
        name = f"{candidate.name}, encoder int8"
        self._report("quantizing the encoder", _JUDGED)
        try:
            self._encoder = quantize_products(onnx.load_model_from_string(self._encoder_file))
        except ModelError:
            return None
        frontend, data = self._tts.voice.manifest.frontend, self._encoder.SerializeToString()
        n_symbols = 1 + max(max(ids) for ids in frontend.phoneme_ids.values())
        encoder = Encoder(data, n_symbols=n_symbols, options=RuntimeOptions(n_threads=self._n_threads))
        known = self._journal.get(f"speed of {name}", 0)
        if known is None:
            few = [ids for spoken in _spread(self._spoken, _N_ENCODED) for ids in spoken.phoneme_ids]
            speaker_id = self._tts.voice.speaker_id(None)
            cost = measure_encoder(self._tts.voice.encoder, encoder, few, speaker_id=speaker_id)
            ratio = statistics.median(cost.time_ratios.values())
            known = {"speedup": 1.0 / ratio, "changed_durations": cost.changed_durations}
            self._journal.add(f"speed of {name}", 0, known)
        made = replace(
            candidate,
            name=name,
            encoder_speedup=known["speedup"],
            encoder_size_ratio=len(data) / len(self._encoder_file),
            changed_durations=known["changed_durations"],
            figures={},
            n_sentences=0,
        )
        if made.encoder_speedup <= 1.0:
            return replace(made, note="dropped: encoder slower")
        texts = [spoken.text for spoken in self._spoken]
        spoken = make_frames(self._tts, texts, seed=self._seed, encoder=encoder)
        return self._judge(made, spoken, _JUDGED, _VERIFIED)

    def _judge(self, candidate: Candidate, spoken: Sequence[Spoken], start: float, stop: float) -> Candidate:
        """Judge a candidate on some sentences first, and on all if it may be within the budget."""
        graph = OrtEngine(self._quantized(candidate.layers).model, RuntimeOptions(n_threads=self._n_threads))
        judged = _spaced(range(len(self._spoken)), _N_JUDGED)
        first = _spaced(judged, _N_FIRST)
        rest = [k for k in judged if k not in first]
        report = self._span(f"judging {candidate.name}", start, stop)
        for part, begin, end in ((first, 0.0, 0.2), (rest, 0.2, 1.0)):
            middle = (begin + end) / 2
            own = self._tts.voice.decoder
            self._hear_all(_AS_IT_IS, own, self._spoken, part, _share(report, begin, middle))
            self._hear_all(candidate.name, graph, spoken, part, _share(report, middle, end))
            # A word or two more make up a budget of words on the first sentences, by chance.
            heard = replace(self._budget, max_wer_increase=None)
            if heard.excess(self._figures(candidate.name)) > _HOPELESS:
                break  # more sentences won't bring it back
        within = self._budget.excess(self._figures(candidate.name)) == 0.0
        complete = self._n_judged(candidate.name) == len(judged)
        return replace(
            candidate,
            figures=self._figures(candidate.name),
            n_sentences=self._n_judged(candidate.name),
            note=_CHOSEN if within and complete else "beyond the budget",
        )

    def _hear_all(
        self, name: str, graph: OrtEngine, spoken: Sequence[Spoken], numbers: Sequence[int], report: Share
    ) -> None:
        """Measure some texts, unless that was done before: now, or in a search that was stopped."""
        records = self._judged.setdefault(name, {})
        records |= {k: known for k in numbers if (known := self._journal.get(name, k)) is not None}
        missing = [k for k in numbers if k not in records]

        def hear(k: int) -> dict[str, Any]:
            reference = decode(self._tts.voice.decoder, self._spoken[k])
            samples = reference if name == _AS_IT_IS else decode(graph, spoken[k])
            return self._judge_of(samples, reference, spoken[k].text)

        with ThreadPoolExecutor(_N_LISTENERS) as pool:
            heard = {pool.submit(hear, k): k for k in missing}
            try:
                for done, future in enumerate(as_completed(heard)):
                    records[heard[future]] = future.result()
                    self._journal.add(name, heard[future], records[heard[future]])
                    report(done / len(missing))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise

    def _figures(self, name: str) -> dict[str, float]:
        records = self._judged.get(name, {})
        reference = [self._judged[_AS_IT_IS][k] for k in records]
        return summarize(list(records.values()), reference) if records else {}

    def _n_judged(self, name: str) -> int:
        return len(self._judged.get(name, {}))


def _share(report: Share, start: float, stop: float) -> Share:
    """Return what is called with the share of a part, which goes from `start` to `stop` of the whole."""
    return lambda share: report(start + share * (stop - start))


def _spaced(numbers: Sequence[int], n: int) -> list[int]:
    """Return at most `n` numbers, evenly spaced, the first among them."""
    n = min(n, len(numbers))
    return [numbers[k * len(numbers) // n] for k in range(n)]


def _spread(spoken: Sequence[Spoken], n: int) -> list[Spoken]:
    """Return some texts, evenly spread, the longest among them."""
    if len(spoken) <= n:
        return list(spoken)
    return [spoken[(k + 1) * len(spoken) // n - 1] for k in range(n)]


def _silent(stage: str, share: float) -> None:
    """Report to nobody."""
