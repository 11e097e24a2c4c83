// Plays chunks of speech in the page as they come, with Web Audio, and shows how that goes.
//
// ChunkPlayer schedules and counts and touches no page; View shows it; the default export ties both to
// the widget. Every time is in seconds on the AudioContext's clock unless its name ends in Ms.
//
//   chunk       c0        c1     c2                     c3
//   scheduled   |--lead--[ c0   ][ c1        ][ c2 ]    .--lead--[ c3 ...
//                                                   |-- underrun -|

const LEAD_S = 0.025; // between a chunk's arrival and its sound, so that the audio thread has it in time
const TOO_LATE_S = 0.005; // a start nearer than this would be missed
const TICK_MS = 40;
const FULL_SCALE = 32767;
const FLOOR_DB = -60;
const KEPT_S = 600; // of what may be saved; more would be memory that nobody has asked for

const OVER = ["done", "stopped", "failed"];

const newContext = (options) => new AudioContext(options);

export class ChunkPlayer {
  constructor({ createContext = newContext, nowMs = () => performance.now(), leadS = LEAD_S } = {}) {
    this.createContext = createContext;
    this.nowMs = nowMs;
    this.leadS = leadS;
    this.context = null;
    this.output = null;
    this.analyser = null;
    this.clear(0);
    this.state = "idle";
  }

  clear(stream) {
    this.stream = stream;
    this.state = "waiting";
    this.error = null;
    this.sources = new Set();
    this.chunks = []; // {startS, durationS, peak}: where each sounds, and how loud it is
    this.pcms = []; // all that has come, to be saved; null once it is too much
    this.baseS = 0; // where the samples since the last wait begin
    this.nSamples = 0; // samples since then
    this.ended = false;
    this.underruns = 0;
    this.underrunS = 0;
    this.ttfaMs = null;
    this.firstArrivalMs = null;
    this.firstSoundMs = null;
  }

  // Opens the audio device ahead of the first chunk: that takes longer than anything else.
  open(sampleRate) {
    if (!this.context || this.context.sampleRate !== sampleRate || this.context.state === "closed") {
      this.close();
      this.context = this.createContext({ sampleRate, latencyHint: "interactive" });
      this.analyser = this.context.createAnalyser();
      this.analyser.fftSize = 2048;
      this.analyser.connect(this.context.destination);
    }
    this.resume();
  }

  resume() {
    if (this.context && this.context.state === "suspended") this.context.resume().catch(() => {});
  }

  start(stream, sampleRate, prebufferS = 0) {
    this.silence();
    this.clear(stream);
    this.prebufferS = prebufferS;
    this.open(sampleRate);
    this.output = this.context.createGain();
    this.output.connect(this.analyser);
  }

  // Schedules a chunk behind the one before it; returns where it sounds, or null if it is out of date.
  push(stream, pcm, { readyMs = null, audible = false } = {}) {
    if (stream !== this.stream || OVER.includes(this.state) || pcm.length === 0) return null;
    const rate = this.context.sampleRate;
    const samples = new Float32Array(pcm.length);
    let peak = 0;
    for (let k = 0; k < pcm.length; k++) {
      samples[k] = pcm[k] / FULL_SCALE;
      peak = Math.max(peak, Math.abs(samples[k]));
    }
    const nowS = this.context.currentTime;
    if (this.chunks.length === 0) {
      this.firstArrivalMs = this.nowMs();
      this.beginAt(nowS + this.leadS + this.prebufferS);
    } else if (this.endS < nowS + TOO_LATE_S) {
      const endedS = this.endS;
      this.beginAt(nowS + this.leadS);
      this.underruns += 1;
      this.underrunS += this.baseS - endedS;
    }
    if (audible && this.ttfaMs === null) this.ttfaMs = readyMs;
    const buffer = this.context.createBuffer(1, samples.length, rate);
    buffer.copyToChannel(samples, 0);
    const source = this.context.createBufferSource();
    source.buffer = buffer;
    source.connect(this.output);
    source.onended = () => this.sources.delete(source);
    const startS = this.endS;
    source.start(startS);
    this.sources.add(source);
    this.nSamples += samples.length;
    this.pcms?.push(pcm);
    if (this.savedS > KEPT_S) this.pcms = null;
    this.chunks.push({ startS, durationS: samples.length / rate, peak });
    return startS;
  }

  // On the grid of samples, so that chunks meet without a sample between them.
  beginAt(timeS) {
    this.baseS = Math.ceil(timeS * this.context.sampleRate) / this.context.sampleRate;
    this.nSamples = 0;
  }

  end(stream, error = null) {
    if (stream !== this.stream || OVER.includes(this.state)) return;
    this.ended = true;
    this.error = error;
  }

  fail(reason) {
    this.state = "failed";
    this.error = reason;
  }

  // Silent within one block of the audio thread (128 samples), whatever is scheduled.
  stop() {
    if (this.busy) this.state = "stopped";
    this.silence();
  }

  silence() {
    this.output?.disconnect();
    this.output = null;
    for (const source of this.sources) source.stop();
    this.sources.clear();
  }

  close() {
    this.silence();
    this.context?.close().catch(() => {});
    this.context = null;
  }

  get busy() {
    return this.state !== "idle" && !OVER.includes(this.state);
  }

  get endS() {
    return this.baseS + (this.nSamples > 0 ? this.nSamples / this.context.sampleRate : 0);
  }

  get bufferedS() {
    if (this.chunks.length === 0 || OVER.includes(this.state)) return 0;
    return Math.max(0, this.endS - Math.max(this.context.currentTime, this.chunks[0].startS));
  }

  // Brings state and first sound up to date; called again and again while something plays.
  update() {
    if (!this.busy) return this.state;
    const { context, chunks } = this;
    const nowS = context.currentTime;
    if (this.ended && (chunks.length === 0 || nowS >= this.endS)) {
      this.state = this.error === null ? "done" : "failed";
    } else if (chunks.length > 0 && context.state === "suspended") {
      this.state = "blocked";
    } else if (chunks.length > 0 && nowS >= chunks[0].startS) {
      this.state = "playing";
    }
    if (this.firstSoundMs === null && chunks.length > 0 && nowS >= chunks[0].startS) {
      this.firstSoundMs = this.soundsAtMs(chunks[0].startS) - this.firstArrivalMs;
    }
    return this.state;
  }

  get savedS() {
    return (this.pcms ?? []).reduce((sum, pcm) => sum + pcm.length, 0) / (this.context?.sampleRate ?? 1);
  }

  // All that has come of a stream, as it came, without the waits.
  wav() {
    const nBytes = 2 * this.pcms.reduce((sum, pcm) => sum + pcm.length, 0);
    const rate = this.context.sampleRate;
    const head = new DataView(new ArrayBuffer(44));
    const write = (at, text) => [...text].forEach((letter, k) => head.setUint8(at + k, letter.charCodeAt(0)));
    write(0, "RIFF");
    head.setUint32(4, 36 + nBytes, true);
    write(8, "WAVEfmt ");
    head.setUint32(16, 16, true);
    head.setUint16(20, 1, true); // PCM
    head.setUint16(22, 1, true); // channels
    head.setUint32(24, rate, true);
    head.setUint32(28, 2 * rate, true);
    head.setUint16(32, 2, true);
    head.setUint16(34, 16, true);
    write(36, "data");
    head.setUint32(40, nBytes, true);
    return new Blob([head, ...this.pcms], { type: "audio/wav" });
  }

  // When a time of the context reaches the loudspeaker, on the page's clock.
  soundsAtMs(timeS) {
    const latencyS = this.context.outputLatency || this.context.baseLatency || 0;
    return this.nowMs() + 1e3 * (timeS - this.context.currentTime + latencyS);
  }

  // Peak of the newest 2048 samples that sounded, in dB of full scale.
  levelDb() {
    if (this.state !== "playing") return FLOOR_DB;
    const window = new Float32Array(this.analyser.fftSize);
    this.analyser.getFloatTimeDomainData(window);
    const peak = window.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    return peak > 0 ? Math.max(FLOOR_DB, 20 * Math.log10(peak)) : FLOOR_DB;
  }

  status() {
    return {
      stream: this.stream,
      state: this.state,
      chunks: this.chunks.length,
      underruns: this.underruns,
      underrun_ms: 1e3 * this.underrunS,
      first_sound_ms: this.firstSoundMs,
      ttfa_ms: this.ttfaMs,
    };
  }
}

const WORDS = {
  idle: "ready",
  waiting: "waiting for the first chunk",
  playing: "playing",
  done: "done",
  stopped: "stopped",
  blocked: "the browser blocks sound: click here",
  failed: "failed",
};

const element = (tag, className, parent) => {
  const made = document.createElement(tag);
  made.className = className;
  parent.append(made);
  return made;
};

class View {
  constructor(root, player, onStop) {
    this.player = player;
    this.root = element("div", "btk-player", root);
    const head = element("div", "btk-head", this.root);
    this.stopButton = element("button", "btk-stop", head);
    this.stopButton.textContent = "■ Stop";
    this.stopButton.title = "stop the sound and the synthesis";
    this.stopButton.addEventListener("click", onStop);
    this.saveButton = element("button", "btk-save", head);
    this.saveButton.textContent = "Save WAV";
    this.saveButton.title = "save what has come of this stream as speech.wav";
    this.saveButton.addEventListener("click", () => this.save());
    this.state = element("span", "btk-state", head);
    this.state.setAttribute("role", "status");
    this.state.addEventListener("click", () => player.resume());
    this.canvas = element("canvas", "btk-chunks", this.root);
    this.canvas.title = "chunks as they came, each as high as it is loud; the line is what sounds now";
    this.canvas.setAttribute("role", "img");
    const numbers = element("div", "btk-numbers", this.root);
    this.fields = {};
    for (const [name, label, title] of [
      ["ttfa", "TTFA", "from the call with text to the first audible chunk, in the kernel"],
      ["sound", "page", "from the first chunk's arrival in the page to its sound"],
      ["buffer", "buffer", "audio that has come and hasn't sounded"],
      ["underruns", "underruns", "how often playback waited for a late chunk, and how long in all"],
    ]) {
      const field = element("div", "btk-field", numbers);
      field.title = title;
      element("span", "btk-label", field).textContent = label;
      this.fields[name] = element("span", "btk-value", field);
    }
    this.meter = element("meter", "btk-level", numbers);
    Object.assign(this.meter, { min: FLOOR_DB, max: 0, value: FLOOR_DB, title: "level (dB of full scale)" });
  }

  draw() {
    const { player, fields } = this;
    const ms = (value) => (value === null ? "–" : `${value.toFixed(0)} ms`);
    const status = player.status();
    this.state.textContent = player.error ? `failed: ${player.error}` : WORDS[player.state];
    this.stopButton.disabled = !player.busy;
    this.saveButton.disabled = !player.pcms?.length;
    fields.ttfa.textContent = ms(status.ttfa_ms);
    fields.sound.textContent = ms(status.first_sound_ms);
    fields.buffer.textContent = `${player.bufferedS.toFixed(2)} s`;
    fields.underruns.textContent = `${status.underruns} (${ms(status.underrun_ms)})`;
    this.meter.value = player.levelDb();
    Object.assign(this.root.dataset, {
      state: player.state,
      chunks: status.chunks,
      buffered: player.bufferedS.toFixed(3),
      level: this.meter.value.toFixed(1),
      underruns: status.underruns,
      firstSoundMs: status.first_sound_ms ?? "",
    });
    const cameS = player.savedS.toFixed(1);
    this.canvas.setAttribute("aria-label", `${status.chunks} chunks of ${cameS} s in all; ${this.canvas.title}`);
    this.drawChunks();
  }

  save() {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(this.player.wav());
    link.download = "speech.wav";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 10000); // once the browser has taken it
  }

  drawChunks() {
    const { canvas, player } = this;
    const scale = window.devicePixelRatio || 1;
    const [width, height] = [canvas.clientWidth, canvas.clientHeight];
    if (canvas.width !== Math.round(width * scale)) {
      canvas.width = Math.round(width * scale);
      canvas.height = Math.round(height * scale);
    }
    const pen = canvas.getContext("2d");
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    pen.clearRect(0, 0, width, height);
    if (player.chunks.length === 0) return;
    const firstS = player.chunks[0].startS;
    const spanS = Math.max(2, player.endS - firstS);
    const x = (timeS) => (width * (timeS - firstS)) / spanS;
    const nowS = player.context?.currentTime ?? 0;
    player.chunks.forEach(({ startS, durationS, peak }, k) => {
      const played = nowS >= startS + durationS || player.state === "done";
      pen.fillStyle = played ? "#8a8a8a" : k % 2 ? "#0072B2" : "#56B4E9";
      const tall = Math.max(2, height * Math.min(1, peak));
      pen.fillRect(x(startS), height - tall, Math.max(1, x(startS + durationS) - x(startS) - 1), tall);
    });
    if (player.state === "playing") {
      pen.fillStyle = "#D55E00";
      pen.fillRect(Math.min(width - 2, x(nowS)), 0, 2, height);
    }
  }

  remove() {
    this.root.remove();
  }
}

// Called once for each model: it has one player, however many views of it there are.
export default () => {
  const player = new ChunkPlayer();
  const views = new Set();
  let stop = () => {};

  function initialize({ model }) {
    let timer = null;
    let told = "";
    const tell = () => {
      const status = player.status();
      const text = JSON.stringify([status.stream, status.state, status.underruns, status.first_sound_ms]);
      if (text === told) return;
      told = text;
      model.set("status", status);
      model.save_changes();
    };
    const tick = () => {
      player.update();
      for (const view of views) view.draw();
      tell();
      if (!player.busy) {
        clearInterval(timer);
        timer = null;
      }
    };
    const run = () => {
      timer ??= setInterval(tick, TICK_MS);
      tick();
    };
    stop = () => {
      const stream = player.stream;
      player.stop();
      model.send({ kind: "stop", stream });
      tick();
    };
    const hear = (message, buffers) => {
      if (message.kind === "start") {
        try {
          player.start(message.stream, message.sample_rate, model.get("prebuffer_s"));
        } catch (error) {
          player.fail(`this page can't play sound: ${error.message}`);
        }
        run();
      } else if (message.kind === "chunk") {
        const { buffer, byteOffset, byteLength } = buffers[0];
        const pcm = new Int16Array(buffer.slice(byteOffset, byteOffset + byteLength));
        player.push(message.stream, pcm, { readyMs: message.ready_ms, audible: message.audible });
      } else if (message.kind === "end") {
        player.end(message.stream, message.error);
      } else if (message.kind === "stop") {
        player.stop();
        tick();
      }
    };
    model.on("msg:custom", hear);
    try {
      player.open(model.get("sample_rate"));
    } catch (error) {
      console.warn("no sound yet:", error); // a page without a device tries again when it must play
    }
    model.send({ kind: "ready" });
    return () => {
      model.off("msg:custom", hear);
      clearInterval(timer);
      player.close();
    };
  }

  function render({ el }) {
    const view = new View(el, player, () => stop());
    views.add(view);
    view.draw();
    return () => {
      views.delete(view);
      view.remove();
    };
  }

  return { initialize, render };
};
