"""Why some mutants live: by file, the line, what it becomes, each as it is or as a pattern, and the reason.

A reason that begins with `SAME` says that no test could ever tell the mutant from the module.
"""

SAME = "the same"

_LENGTHS_WERE_COMPARED = "the same: both lengths were compared before"
_EQUALLY_GOOD = "the same: of two ways of equal work either is right"
_SAME_RANKS = "the same: a tensor has one rank, whatever its length"
_RULES = "balacoon_tk/graph/rules/*.py"
_SCHEDULE = "balacoon_tk/pacing/schedule.py"

REASONS: tuple[tuple[str, str, str, str], ...] = (
    (
        "balacoon_tk/decoder/chunking.py",
        "if stop >= n_frames or SLIVERS_PER_CHUNK * (n_frames - stop + lag_frames) < size:",
        "if stop > n_frames or *",
        "the same: what follows sets `stop` to `n_frames`, which it is already",
    ),
    (
        "balacoon_tk/decoder/overlap_trim.py",
        "for i, (samples, window) in enumerate(zip(decoded, windows, strict=True)):",
        "*strict=False*",
        _LENGTHS_WERE_COMPARED,
    ),
    (
        "balacoon_tk/decoder/overlap_trim.py",
        "pairs = [pair for pair in zip(decoded, windows, strict=True) if pair[1].n_kept]",
        "*strict=False*",
        _LENGTHS_WERE_COMPARED,
    ),
    (
        "balacoon_tk/decoder/overlap_trim.py",
        "joined = np.empty((windows[-1].keep_stop - windows[0].keep_start) * hop_length, decoded[0].dtype)",
        "*decoded[[] -1].dtype)",
        "the same: all have one dtype, or were refused",
    ),
    (
        _SCHEDULE,
        "_MARGINS = (2.0, 1.5, 1.0)  # factors on the safety factor, after the first chunk",
        "*",
        "a choice: more room for later chunks where it costs no work, which few schedules have",
    ),
    (
        _SCHEDULE,
        "_HORIZON_FRAMES = 1024  # growing that takes longer than this (10 s or so) is no growing",
        "_HORIZON_FRAMES = 102[35]*",
        "the same: a limit on how long is looked, and nothing grows up to it",
    ),
    (
        _SCHEDULE,
        "buffer_s = 0.0",
        "buffer_s = -1.0",
        "the same: the larger of it and 0 is taken below",
    ),
    (
        _SCHEDULE,
        "return next(size for size, cost in enumerate(costs, start=1) if cost <= _GOOD_ENOUGH * min(costs))",
        "*cost < _GOOD_ENOUGH*",
        "the same but where a cost is 1.01 times the least to the last bit",
    ),
    (
        _SCHEDULE,
        "least, enough = enough + 1, min(2 * enough, most)",
        "*",
        "the same: how far the search strides decides how long it takes, and not what it finds",
    ),
    (
        _SCHEDULE,
        "end = first + _HORIZON_FRAMES if n_frames is None else n_frames - lag",
        "*n_frames [+] lag",
        "the same: no place behind the end is ever reached",
    ),
    (_SCHEDULE, "buffer_s = np.full(end + steady + 1, -np.inf)", "*", "the same: room that no chunk reaches"),
    (
        _SCHEDULE,
        "came_by = np.zeros(end + steady + 1, np.int64)",
        "*",
        "the same: room that no chunk reaches",
    ),
    (_SCHEDULE, "break", "continue", "the same, and later: it goes on over places that bring nothing"),
    (
        _SCHEDULE,
        "found = (has_s - place * gain_s[-1] / steady, place, steady) if n_sizes == steady else None",
        "*place, steady) if n_sizes == steady else None",
        "the way to a later place that leaves most goes on in steady chunks, which repeat: the same chunks",
    ),
    (
        _SCHEDULE,
        "if best is not None and place > first + 2 * steady:",
        "*",
        "how far is looked beyond the first place where the steady size can begin; more growing is no gain",
    ),
    (
        _SCHEDULE,
        "if found is not None and (best is None or found[0] > best[0]):",
        "*found[[]0] >= best*",
        _EQUALLY_GOOD,
    ),
    (
        _SCHEDULE,
        "if found is not None and (best is None or found[0] > best[0]):",
        "*found[[]0] > best[[] *",
        "the first place where the end or the steady size can begin is the best in all that is tried",
    ),
    (_SCHEDULE, "better = reached_s > buffer_s[stretch]", "*>=*", _EQUALLY_GOOD),
    (_SCHEDULE, "sizes = range(1, n_sizes + 1)", "*0, n_sizes*", "the same: no frames end no sentence"),
    (
        _RULES,
        "*.outputs?0?*",
        "*.outputs?*-1?*",
        "the same: the node has one output",
    ),
    (
        "*/base.py",
        "fill: float = 0.0",
        "*",
        "the same: a kernel that pads says what with, and nothing else reads it",
    ),
    (
        "*/attention.py",
        "for index, axis in enumerate(window.axes[:3]):",
        "for index, axis in ??:",
        "a guard: windows are made where time is, and nothing moves it afterwards",
    ),
    (
        "*/attention.py",
        "window.axes[3],",
        "window.axes[[] 2],",
        "all attentions that are tried have time in their result where the values have it",
    ),
    (
        "*/attention.py",
        "query, key, value = (name_of(source) for source in node.inputs[:3])",
        "*[[]: 4])",
        "the same: there are three inputs",
    ),
    (
        "*/attention.py",
        "n_most = _most_steps(writer, name_of(node.inputs[0]), window)",
        "*[[] 1]), window)",
        "the same: queries and keys run at one rate",
    ),
    (
        "*/attention.py",
        'return build.one("Gather", build.constant(array[:, 0]), index, axis=0)',
        "*[[]:, [1-]*",
        "the same: all columns are, where nothing stands beside",
    ),
    (
        "*/positions.py",
        'nothing = build.one("Gather", zeros, after, axis=0)',
        "*axis= -1)",
        "the same: zeros have one axis",
    ),
    (
        "*/positions.py",
        "assert start is not None and step is not None and start.const_value is not None",
        "*",
        "the same: an assertion that always holds, for mypy",
    ),
    (
        "*/positions.py",
        "return False",
        "return True",
        "a guard: what a length is computed from is a Shape in all graphs that come so far",
    ),
    (
        "*/layout.py",
        "left, right = sum(n_steps[: timed[0]]), sum(n_steps[timed[0] + 1 :])",
        "*timed[[] -1]*",
        "the same: one alone has time there",
    ),
    (
        "*/layout.py",
        'timeline, up = ctx.only_time(), ctx.int("blocksize", 1)',
        "*",
        "the same: ONNX demands the attribute",
    ),
    (_RULES, "*len(ctx.output_shapes()[[]0])*", "*len(ctx.output_shapes()[[] *1])*", _SAME_RANKS),
    (
        "*/layout.py",
        'if ctx.int("axis", 0) % len(ctx.output_shapes()[0]) == axis:',
        "*-1)*",
        "the same: ONNX demands the attribute",
    ),
    (
        "*/layout.py",
        "*.reshape(-1)*",
        "*.reshape(- 2)*",
        "the same: NumPy takes any negative number for one",
    ),
    (
        "*/layout.py",
        "axis = timeline.axis + len(shapes[0]) - ctx.rank(0)",
        "*shapes[[] -1]*",
        _SAME_RANKS,
    ),
    (
        "*/recurrence.py",
        "inputs += [None] * (_FIRST_STATE - len(inputs))",
        "*(_FIRST_STATE + len(inputs))",
        "the same: empty inputs behind the last mean nothing",
    ),
    (
        "*/recurrence.py",
        "states.append(build.state((1, *shape), 0, 1, writer.dtype(name)))",
        "*shape), -1, 1*",
        "which axis a state has that is as long from the start as ever is asked by nobody",
    ),
    (
        "*/recurrence.py",
        "rank = len(ctx.probe.shapes[name_of(value)][0])",
        "*[[] 1])",
        _SAME_RANKS,
    ),
    (
        "*/recurrence.py",
        'n_states = len(node.inputs) - node.attributes.get_int("num_scan_inputs", 0)',
        "*, 1)",
        "the same: ONNX demands the attribute",
    ),
    (
        "*/recurrence.py",
        "value.name = value.name or build.names.take(",
        "* and *",
        "the same: ONNX Runtime takes no scan whose state has no name",
    ),
    (
        _SCHEDULE,
        "return ending - 1, (left_s - place * pace.frame_s, place, ending) if left_s >= 0.0 else None",
        "*place + pace.frame_s*",
        "ends at other places rarely differ in work by so little; with frames of a second it is the same",
    ),
    (
        "*/channels.py",
        'term.replace("...", hidden[len(hidden) - n :]) for term, n in zip(terms, n_hidden, strict=True)',
        "*strict=False*",
        "the same: a number was worked out for each term",
    ),
    (
        "*/channels.py",
        'n_gone = 0 if ctx.int("keepdims", 1) else sum(n < axis for n in {n % rank for n in axes})',
        "*sum(n <= axis *",
        "the same: time is none of them, or was refused",
    ),
    (
        "*/interpolation.py",
        "if self.up > self.down:",
        "if self.up >= self.down:",
        "the same: a rate of 1 is no stretch",
    ),
    (
        "*/interpolation.py",
        'if ctx.int("antialias", 0) and rate < 1:',
        "*rate <= 1:",
        "the same: a rate of 1 is no stretch",
    ),
    (
        "*/interpolation.py",
        "_LARGEST_DENOMINATOR = 4096  # 24000 / 22050 is 160 / 147, and a frame has few thousands of samples",
        "*",
        "a choice: which ratios count as small",
    ),
    (
        "*/interpolation.py",
        "late = max(0, -(-self._shift // self._factor)) + down - 1",
        "late = max( -1, *",
        "a plan's estimate: how late a step is that goes down by a fraction is written down frame by frame",
    ),
    (
        "*/interpolation.py",
        "return -(-2 * self.down // self.up) if self.first_if_single else 1",
        "* else 0",
        "the same: a step is asked for of each tensor anyway",
    ),
    (
        "*/interpolation.py",
        "if down > 1:",
        "if down >= 1:",
        "the same: a group of one step is always whole",
    ),
    (
        "*/local.py",
        "pads[k], pads[k + n_spatial] = (smaller, larger) if upper else (larger, smaller)",
        "pads[k], pads[k - n_spatial] = *",
        "the same: counted from the end it is that place",
    ),
    (
        "*/stateful.py",
        "axis, result = ctx.varying_axis(), ctx.output_shapes()[0]",
        "*output_shapes()[[] *1]",
        "the same: only time is other at another length, and it is left out",
    ),
    ("*/stateful.py", "if step < 1:", "if step < 0:", "the same: ONNX has no steps of 0"),
    (
        "*/stateful.py",
        'timeline, down = ctx.only_time(), ctx.int("blocksize", 1)',
        '*"blocksize", [02])',
        "the same: ONNX takes no SpaceToDepth without it",
    ),
    (
        "*/stateful.py",
        "return dict(zip(axes, zip(starts, ends, steps, strict=True), strict=True))",
        "*strict=False*",
        "the same: ONNX Runtime has run the node, and takes no others",
    ),
    (
        "*/stateful.py",
        "if step > 1 and timeline.phased and end < 0:",
        "*end <*[01]:",
        "the same: an end at the utterance's first step was refused before",
    ),
    (
        "*/stateful.py",
        "build.keep(to_skip, build.slice(to_skip, 0, 0, 0))",
        "*0, -1, 0))",
        "the same: neither leaves a step",
    ),
    (
        "*/stateful.py",
        "build.keep(to_skip, build.slice(to_skip, 0, 0, 0))",
        "*to_skip, -1, *",
        "the same: it has one axis",
    ),
    ("*/stateful.py", "if down > 1:", "if down >= 1:", "the same: one of one is all of them"),
    (
        "*/local.py",
        "build.keep(to_skip, build.slice(zeros, 0, 0, build.larger(ahead, build.ints(0))))",
        "*zeros, -1, *",
        "the same: it has one axis",
    ),
    (
        "*/stateful.py",
        'build.keep(to_skip, build.slice(zeros, 0, 0, build.one("Sub", reached, build.length(value, axis))))',
        "*zeros, -1, *",
        "the same: it has one axis",
    ),
    (
        "*/stateful.py",
        "by_length = step > 1 or not (timeline.phased or local.pointwise)",
        "by_length = step >*[01] or *",
        "a guard: the probe's lengths may miss the phase in which a tensor trails least",
    ),
    (
        "*/scheduler.py",
        "URGENT_S = 0.25",
        "*",
        "a choice: how much audio is enough for the work of others",
    ),
    (
        "*/scheduler.py",
        "if self._n_free >= stream.n_threads and not (self._playing or self._silent):",
        "if self._n_free > *",
        "the same: the way by the heap gives the processors at once as well",
    ),
    (
        "*/scheduler.py",
        "self._begun_s = 0.0",
        "*",
        "the same: it is set when the slot is entered",
    ),
)
