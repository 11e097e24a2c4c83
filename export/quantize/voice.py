"""From a plain voice to one in int8: calibrate, try mixtures, judge them, put the fastest in place.

Whatever takes long is in a journal, so that a search goes on where it was stopped, and one with another
budget takes over what the last one has measured.
"""

from __future__ import annotations

import hashlib
import os
import statistics
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any

import onnx

from balacoon_tk import TTS
from balacoon_tk.decoder import Engine
from balacoon_tk.errors import ModelError, ParameterError
from balacoon_tk.export.quantize import mixtures
from balacoon_tk.export.quantize.equalize import equalize
from balacoon_tk.export.quantize.half_voice import requantized
from balacoon_tk.export.quantize.judging import (
    Judge,
    Spoken,
    decode,
    make_frames,
    measure_encoder,
    measure_speedup,
)
from balacoon_tk.export.quantize.mixtures import quantize_encoder as make_int8_encoder
from balacoon_tk.export.quantize.pareto import Budget, BudgetError, Candidate, ParetoFront, summarize
from balacoon_tk.export.quantize.pause_gain import add_pause_gain, block_samples, measure_noise
from balacoon_tk.export.quantize.ranges import CalibrationMethod, choose_range, collect_histograms
from balacoon_tk.metrics._journal import Journal
from balacoon_tk.metrics.registry import import_eval, search_metrics
from balacoon_tk.metrics.sentences import check_sentences, plain_sentences
from balacoon_tk.runtime.options import Backend
from balacoon_tk.stages.encoder import Encoder
from balacoon_tk.targets.ort_cpu.optimize import optimize_encoder
from balacoon_tk.voice.files import VoiceFiles
from balacoon_tk.voice.finish import PlainVoice, Progress, finish_voice, ignore_progress, share_of
from balacoon_tk.voice.install import check_space, check_target
from balacoon_tk.voice.voice import load_voice

Share = Callable[[float], None]

FRONT_FILE = "quantization.json"

_LEAST_FRAMES = 400
_N_CALIBRATED, _N_FOR_BLOCKS, _N_ENCODED, _N_FIRST, _N_JUDGED = 16, 2, 6, 10, 50  # sentences
_N_CANDIDATES = 4
# Threads that judge; tracking of pitch keeps one busy while a recogniser listens in the other.
_N_LISTENERS = 2
# Beyond the budget by this share of it, after the first sentences.
_HOPELESS = 0.5
_AS_IT_IS, _CHOSEN = "fp32", "chosen"

# Shares of the time that a search takes, where each stage ends.
_CALIBRATED, _SENSED, _JUDGED, _VERIFIED = 0.05, 0.15, 0.7, 0.95


@dataclass(frozen=True, slots=True)
class Quantized:
    """A voice that was made, and what it was chosen from: speed, size and quality of every candidate."""

    path: Path
    pareto_front: ParetoFront


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
    backend: Backend | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
) -> Quantized:
    """Make the fastest voice whose quality stays within a budget, its graphs in int8.

    Channels are scaled to like extents first. Each block of convolutions is quantized alone to see what it
    loses, and the blocks that cost most quality are left out one by one. The mixtures that this gives are
    timed in turn with the voice as it is and judged on sentences, until one is within the budget; then
    that one with the encoder's products in int8 too, at the durations that the voice's own encoder says.
    Streamed and whole samples of the result agree, as they do before.

    The engine that runs the voice here times and judges the mixtures, and is the one whose int8 it is: the
    native engine rounds what layers read, and all dense convolutions are layers. ONNX Runtime rounds what
    lies between them as well, and is no faster with a layer of one tap.

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
    backend : {"auto", "native", "onnxruntime"}, optional
        As for `load_voice`. A voice in the int8 of the native engine is run by ONNX Runtime whole and slowly;
        one in ONNX Runtime's is streamed by both.
    overwrite : bool
        Whether a voice that is at `out` is replaced.
    progress : callable, optional
        Called with the stage's name and the share of the whole that is done, from 0 to 1.

    Raises
    ------
    BudgetError
        If no candidate is within the budget; nothing is installed then.
    ParameterError
        If an argument is wrong, there are too few frames to calibrate on, something is at `out`, or there is
        no room for it.
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
    check_space(target, source)
    for metric in search_metrics().values():
        for module in metric.packages:
            # Now, and not when the first sentence is judged minutes later.
            import_eval(module, what="quantizing")
    texts = plain_sentences() if sentences is None else check_sentences(sentences)
    tts = TTS(load_voice(source, n_threads=n_threads, backend=backend), frontend=frontend)
    manifest = tts.voice.manifest
    if manifest.decoder.precision != _AS_IT_IS:
        raise ModelError(f"{source}: quantized already ({manifest.decoder.precision}): take the one before")
    settings = {
        "program": version("balacoon_tk"),
        "voice": manifest.fingerprint,
        "sentences": hashlib.sha256("\n".join(texts).encode()).hexdigest(),
        "method": f"{method} {clipped_share}",
        "seed": seed,
        "n_threads": n_threads,
        "backend": tts.voice.backend.name,
    }
    with Journal(work_folder, settings) as journal:
        search = _Search(tts, texts, budget, journal, seed, progress or ignore_progress)
        front = search.run(method, clipped_share, quantize_encoder=quantize_encoder)
        search.install(front, target, overwrite=overwrite)
    return Quantized(target, front)


class _Search:
    """One search, with what its steps have in common; `run` comes first, then `install`."""

    def __init__(
        self, tts: TTS, texts: Sequence[str], budget: Budget, journal: Journal, seed: int, report: Progress
    ) -> None:
        self._tts, self._voice, self._options = tts, tts.voice, tts.voice.options
        self._budget, self._journal, self._seed, self._report = budget, journal, seed, report
        self._judge_of = Judge(tts.get_sampling_rate())
        report("reading sentences", 0.0)
        self._spoken = make_frames(tts, texts, seed=seed)
        # Speeds and losses of blocks are only compared with each other: half of the sentences are enough.
        self._half = self._spoken[: len(self._spoken) // 2 or 1]
        judged = _spaced(range(len(texts)), _N_JUDGED)
        first = _spaced(judged, _N_FIRST)
        # The first ones say whether the others are worth judging, so they are from all over the list.
        self._order = [*first, *(k for k in judged if k not in first)]
        n_frames = sum(feeds["frames"].shape[-1] for spoken in self._spoken for feeds in spoken.feeds)
        if n_frames < _LEAST_FRAMES:
            raise ParameterError(
                f"sentences give {n_frames} frames to calibrate on, which must be >= {_LEAST_FRAMES}"
            )
        files, manifest = VoiceFiles(self._voice.path), self._voice.manifest
        # Layers are known by their nodes' names, in the plain graph and in the one that runs fast.
        self._plain = mixtures.name_nodes(files.model(manifest.decoder))
        self._plain_encoder = files.model(manifest.encoder)
        self._int8_encoder = self._plain_encoder
        self._made: dict[
            tuple[tuple[str, ...], tuple[str, ...]], tuple[onnx.ModelProto, onnx.ModelProto]
        ] = {}
        # Sentences on which most is known: what the front says of the voice as it is.
        self._n_judged = 0
        self._mixer: mixtures.Mixer

    def run(self, method: CalibrationMethod, clipped_share: float, *, quantize_encoder: bool) -> ParetoFront:
        """Try the mixtures, the one with most in int8 first, until one is within the budget."""
        blocks, chain, paired = self._sense(method, clipped_share)
        tried: list[Candidate] = []
        ways = [(mixture, paired if k == 0 else ()) for k, mixture in enumerate(chain)]
        if paired:
            # The same without pairs loses less, and is slower by less than a block that is left out.
            ways.insert(1, (chain[0], ()))
        span = (_JUDGED - _SENSED) / len(ways)
        for k, (mixture, in_pairs) in enumerate(ways):
            start = _SENSED + k * span
            self._report("timing", start)
            candidate = self._time(mixture, blocks, in_pairs)
            # Nothing that is slower is worth the minutes that judging takes.
            if candidate.speedup <= 1.0:
                tried.append(replace(candidate, note="dropped: slower"))
                continue
            tried.append(self._judge(candidate, self._spoken, start, start + span))
            if tried[-1].note == _CHOSEN:
                break
        # The encoder comes last: a decoder that isn't within the budget is no better for it.
        if tried[-1].note == _CHOSEN and quantize_encoder:
            with_encoder = self._quantize_encoder(candidate)
            if with_encoder is not None and with_encoder.note == _CHOSEN:
                tried[-1] = replace(tried[-1], note="within the budget")
            tried += [] if with_encoder is None else [with_encoder]
        chosen = next((each.name for each in tried if each.note == _CHOSEN), None)
        n_judged = self._n_judged
        figures, n_bytes = self._figures(_AS_IT_IS, n_judged), self._plain.ByteSize()
        reference = Candidate(_AS_IT_IS, (), 1.0, 1.0, n_bytes, 1.0, figures, n_judged)
        front = ParetoFront(self._voice.manifest.name, self._budget, (reference, *tried), chosen, blocks)
        if chosen is None:
            raise BudgetError(front)
        return front

    def install(self, front: ParetoFront, target: Path, *, overwrite: bool) -> None:
        """Make the chosen candidate a voice and put it in place."""
        self._report("verifying", _VERIFIED)
        chosen = next(each for each in front.candidates if each.name == front.chosen)
        measured = {f"quantized_{name}": value for name, value in chosen.figures.items()}
        measured |= {"quantized_speedup": chosen.speedup, "quantized_size_ratio": chosen.size_ratio}
        encoder = self._plain_encoder
        # One that isn't faster is never chosen, so this is the candidate with the encoder in int8.
        if chosen.encoder_speedup > 1.0:
            encoder = self._int8_encoder
            measured["quantized_encoder_speedup"] = chosen.encoder_speedup
            measured["quantized_changed_durations"] = chosen.changed_durations
        utterances = [spoken.feeds[0] for spoken in self._spoken[:2]]
        finish_voice(
            PlainVoice(self._quantized(chosen)[0], encoder, utterances=utterances),
            requantized(self._voice.manifest, "int8", measured),
            target,
            extra={FRONT_FILE: front.to_json().encode()},
            overwrite=overwrite,
            progress=share_of(self._report, _VERIFIED, 1.0),
        )

    def _sense(
        self, method: CalibrationMethod, clipped_share: float
    ) -> tuple[tuple[mixtures.Block, ...], list[list[mixtures.Block]], tuple[str, ...]]:
        """Return the blocks with what each loses alone, the mixtures of them that are worth a try, and pairs.

        Pairs are the layers that all blocks together may make in pairs of steps.
        """
        utterances = [feeds for spoken in _spread(self._spoken, _N_CALIBRATED) for feeds in spoken.feeds]
        # In the engine that runs the voice, whose int8 has layers of its own and rounds in places of its own.
        make = mixtures.NativeMixer if self._voice.backend.name == "native" else mixtures.OrtMixer
        self._mixer = mixer = make(equalize(self._plain, utterances))
        report = self._span("calibrating", 0.0, _CALIBRATED)
        seen = collect_histograms(mixer.plain, utterances, mixer.tensors, report)
        mixer.calibrate({name: choose_range(h, method, share=clipped_share) for name, h in seen.items()})
        few = [spoken.feeds[0] for spoken in _spread(self._half, _N_FOR_BLOCKS)]
        # Where nothing is limited the first mixture is taken, and no other is needed.
        n_left_out = _N_CANDIDATES - 1 if self._budget.is_limited else 0
        third = (_SENSED - _CALIBRATED) / 3
        trying = self._span("trying each block", _CALIBRATED, _CALIBRATED + third)
        pairing = self._span("trying pairs", _CALIBRATED + third, _SENSED - third)
        leaving = self._span("leaving out blocks", _SENSED - third, _SENSED)

        def sense() -> dict[str, Any]:
            alone = mixtures.measure_blocks(mixer, few, trying)
            paired = mixtures.choose_pairs(mixer, few, pairing)
            chain = mixtures.leave_out_blocks(mixer, few, n_left_out, leaving)
            names = [[block.name for block in kept] for kept in chain]
            return {"lsd_db": alone, "paired": list(paired), "mixtures": names}

        known = self._once(f"blocks and pairs, {n_left_out} left out", sense)
        measured = {block.name: replace(block, lsd_db=known["lsd_db"][block.name]) for block in mixer.blocks}
        chain = [[measured[name] for name in kept] for kept in known["mixtures"]]
        return tuple(measured.values()), chain, tuple(known["paired"])

    def _time(
        self, mixture: Sequence[mixtures.Block], blocks: Sequence[mixtures.Block], paired: tuple[str, ...]
    ) -> Candidate:
        left_out = [block.name for block in blocks if block not in mixture]
        name = "int8 in pairs" if paired else "int8"
        if left_out:
            name += f" but {', '.join(left_out)}"
        voice = self._voice
        candidate = Candidate(name, mixtures.layers_of(mixture), 1.0, 1.0, 0, 1.0, {}, paired=paired)
        plain, fast = self._quantized(candidate)

        def time() -> dict[str, Any]:
            streaming = voice.target.streaming is not None
            engine = self._mixer.open(fast, self._options, streaming=streaming)
            renderer = replace(voice.renderer, engine=engine)
            whole, in_chunks = measure_speedup(voice.renderer, renderer, _spread(self._half, 1))
            return {"whole": whole, "in_chunks": in_chunks}

        known = self._once(f"speed of {name}", time)
        n_bytes = plain.ByteSize()
        return replace(
            candidate,
            speedup=known["whole"],
            streaming_speedup=known["in_chunks"],
            n_bytes=n_bytes,
            size_ratio=n_bytes / self._plain.ByteSize(),
        )

    def _quantized(self, candidate: Candidate) -> tuple[onnx.ModelProto, onnx.ModelProto]:
        """Return a candidate's decoder in int8 with the gain for its pauses: plain, and as it runs."""
        layers = candidate.layers, candidate.paired
        if layers not in self._made:
            plain, fast = self._mixer.quantize(*layers), self._mixer.round(*layers)
            block = block_samples(self._voice.manifest.hop_length)
            if block is not None:
                few = _spread(self._spoken, _N_CALIBRATED)
                engines = (self._mixer.open(fast, self._options), self._voice.decoder)
                ours, theirs = ([decode(engine, each) for each in few] for engine in engines)
                noise = measure_noise(ours, theirs, block)
                if noise:
                    plain, fast = (add_pause_gain(model, noise, block) for model in (plain, fast))
            self._made[layers] = plain, fast
        return self._made[layers]

    def _quantize_encoder(self, candidate: Candidate) -> Candidate | None:
        """Judge a candidate with the encoder in int8 as well; None if nothing in that can be."""
        name, voice = f"{candidate.name}, encoder int8", self._voice
        self._report("quantizing the encoder", _JUDGED)
        try:
            self._int8_encoder = make_int8_encoder(self._plain_encoder)
        except ModelError:
            return None
        frontend = voice.manifest.frontend
        compiled = optimize_encoder(self._int8_encoder, phoneme_ids=frontend.known_ids).model
        encoder = Encoder(compiled, n_symbols=frontend.n_symbols, options=self._options)

        def time() -> dict[str, Any]:
            few = [ids for spoken in _spread(self._spoken, _N_ENCODED) for ids in spoken.phoneme_ids]
            cost = measure_encoder(voice.encoder, encoder, few, speaker_id=voice.speaker_id(None))
            ratio = statistics.median(cost.time_ratios.values())
            return {"speedup": 1.0 / ratio, "changed_durations": cost.changed_durations}

        known = self._once(f"speed of {name}", time)
        made = replace(
            candidate,
            name=name,
            encoder_speedup=known["speedup"],
            encoder_size_ratio=self._int8_encoder.ByteSize() / self._plain_encoder.ByteSize(),
            changed_durations=known["changed_durations"],
        )
        if made.encoder_speedup <= 1.0:
            return replace(made, note="dropped: encoder slower")
        texts = [spoken.text for spoken in self._spoken]
        spoken = make_frames(self._tts, texts, seed=self._seed, encoder=encoder)
        return self._judge(made, spoken, _JUDGED, _VERIFIED)

    def _judge(self, candidate: Candidate, spoken: Sequence[Spoken], start: float, stop: float) -> Candidate:
        """Judge a candidate on some sentences first, and on all if it may be within the budget."""
        engine = self._mixer.open(self._quantized(candidate)[1], self._options)
        what, order, n_heard, width = f"judging {candidate.name}", self._order, 0, stop - start
        for n_sentences, begin, end in ((_N_FIRST, 0.0, 0.2), (len(order), 0.2, 1.0)):
            part = order[n_heard:n_sentences]
            n_heard += len(part)
            halves = [start + share * width for share in (begin, (begin + end) / 2, end)]
            self._hear(_AS_IT_IS, self._voice.decoder, self._spoken, part, self._span(what, *halves[:2]))
            self._hear(candidate.name, engine, spoken, part, self._span(what, *halves[1:]))
            figures = self._figures(candidate.name, n_heard)
            # A word or two more make up a budget of words on the first sentences, by chance.
            if replace(self._budget, max_wer_increase=None).excess(figures) > _HOPELESS:
                break  # more sentences won't bring it back
        self._n_judged = max(self._n_judged, n_heard)
        within = self._budget.excess(figures) == 0.0 and n_heard == len(order)
        note = _CHOSEN if within else "beyond the budget"
        return replace(candidate, figures=figures, n_sentences=n_heard, note=note)

    def _hear(
        self, name: str, engine: Engine, spoken: Sequence[Spoken], numbers: Sequence[int], report: Share
    ) -> None:
        """Measure some texts, unless that was done before: now, or in a search that was stopped."""
        missing = [k for k in numbers if self._journal.get(name, k) is None]

        def hear(k: int) -> dict[str, Any]:
            reference = decode(self._voice.decoder, self._spoken[k])
            samples = reference if name == _AS_IT_IS else decode(engine, spoken[k])
            return self._judge_of(samples, reference, spoken[k].text)

        with ThreadPoolExecutor(_N_LISTENERS) as pool:
            heard = {pool.submit(hear, k): k for k in missing}
            try:
                # As they come and in this thread: what is done is kept, whatever becomes of the others.
                for done, future in enumerate(as_completed(heard)):
                    self._journal.add(name, heard[future], future.result())
                    report(done / len(missing))
            except BaseException:
                # Without this an interrupted search would go on until all texts were heard.
                pool.shutdown(cancel_futures=True)
                raise

    def _figures(self, name: str, n_sentences: int) -> dict[str, float]:
        """Return what the first sentences that are judged say of a candidate; nothing if that is none."""
        records, reference = (
            [found for k in self._order[:n_sentences] if (found := self._journal.get(each, k)) is not None]
            for each in (name, _AS_IT_IS)
        )
        return summarize(records, reference) if records else {}

    def _once(self, key: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """Return what was measured before, or measure it now and keep it."""
        if (known := self._journal.get(key, 0)) is None:
            known = measure()
            self._journal.add(key, 0, known)
        return known

    def _span(self, what: str, start: float, stop: float) -> Share:
        """Return what is called with the share of a stage that is done."""
        return partial(share_of(self._report, start, stop), what)


def _spaced(numbers: Sequence[int], n: int) -> list[int]:
    """Return at most `n` numbers, evenly spaced, the first among them."""
    n = min(n, len(numbers))
    return [numbers[k * len(numbers) // n] for k in range(n)]


def _spread(spoken: Sequence[Spoken], n: int) -> list[Spoken]:
    """Return at most `n` texts, evenly spread, the last among them: often the longest."""
    n = min(n, len(spoken))
    return [spoken[(k + 1) * len(spoken) // n - 1] for k in range(n)]
