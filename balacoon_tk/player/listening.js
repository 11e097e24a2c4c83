// A listening test in the page: plays A, B and X, takes answers by key or button, and knows no names.
//
// Sounds plays what the kernel has sent, Test keeps what is shown, View shows it; the default export ties
// them to the widget. The kernel chooses what is A, B and X, and counts; this page can't say which is which.

const FULL_SCALE = 32767;
const FADE_S = 0.01; // a sound that is cut off would click, and a click can be told from none

const newContext = (options) => new AudioContext(options);

export class Sounds {
  constructor({ createContext = newContext } = {}) {
    this.createContext = createContext;
    this.context = null;
    this.buffers = {};
    this.source = null;
    this.playing = null;
  }

  set(names, pcms, sampleRate) {
    this.stop();
    if (!this.context || this.context.state === "closed") this.context = this.createContext({ sampleRate });
    this.buffers = {};
    names.forEach((name, k) => {
      const samples = Float32Array.from(pcms[k], (value) => value / FULL_SCALE);
      const buffer = this.context.createBuffer(1, Math.max(1, samples.length), sampleRate);
      buffer.copyToChannel(samples, 0);
      this.buffers[name] = buffer;
    });
  }

  // From its beginning, whatever sounds meanwhile.
  play(name, onEnd) {
    this.stop();
    this.context.resume?.();
    const source = this.context.createBufferSource();
    const gain = this.context.createGain();
    source.buffer = this.buffers[name];
    source.connect(gain);
    gain.connect(this.context.destination);
    source.onended = () => {
      if (this.source?.source !== source) return;
      this.source = this.playing = null;
      onEnd();
    };
    source.start();
    this.source = { source, gain };
    this.playing = name;
  }

  stop() {
    if (!this.source) return;
    const { source, gain } = this.source;
    const nowS = this.context.currentTime;
    this.source = this.playing = null;
    gain.gain.setValueAtTime(1, nowS);
    gain.gain.linearRampToValueAtTime(0, nowS + FADE_S);
    source.stop(nowS + FADE_S);
  }

  close() {
    this.stop();
    this.context?.close().catch(() => {});
    this.context = null;
  }
}

const QUESTIONS = { AB: "Which one sounds better?", ABX: "Is X the same as A, or as B?" };
const ANSWERS = {
  AB: [
    ["1", "A", "A is better"],
    ["2", "B", "B is better"],
    ["0", "none", "no preference"],
  ],
  ABX: [
    ["1", "A", "X is A"],
    ["2", "B", "X is B"],
  ],
};

// What is shown: the trial as the kernel has told it, and what has been heard of it.
export class Test {
  constructor(kind, nTrials) {
    this.kind = kind;
    this.nTrials = nTrials;
    this.trial = null;
    this.sounds = [];
    this.heard = new Set();
    this.done = 0;
    this.result = null;
    this.error = null;
  }

  take(message) {
    if (message.kind === "error") {
      this.error = message.text;
      return;
    }
    this.error = null;
    if (message.kind === "done") {
      Object.assign(this, { result: message, trial: null, sentence: "", done: this.nTrials });
      return;
    }
    if (message.sounds) {
      this.sounds = message.sounds;
      this.sentence = message.sentence;
      this.heard = new Set();
    }
    Object.assign(this, { trial: message.trial, answered: message.answered, done: message.done });
  }

  // Nobody can answer what they haven't heard.
  get mayAnswer() {
    return this.trial !== null && !this.answered && this.sounds.every((name) => this.heard.has(name));
  }

  get mayGoOn() {
    return this.trial !== null && this.answered;
  }

  get says() {
    if (this.error !== null) return `failed: ${this.error}`;
    if (this.result) return `Done. ${this.result.text}`;
    if (this.trial === null) return "the first trial is being made";
    const where = `Trial ${this.trial} of ${this.nTrials}.`;
    if (this.answered) return `${where} Answered; go on with Next.`;
    const left = this.sounds.filter((name) => !this.heard.has(name));
    return left.length > 0 ? `${where} Listen to ${left.join(" and ")}.` : `${where} ${QUESTIONS[this.kind]}`;
  }
}

const element = (tag, className, parent, text = "") => {
  const made = document.createElement(tag);
  made.className = className;
  made.textContent = text;
  parent.append(made);
  return made;
};

// One that is disabled in earnest would lose the focus, and with it the keys.
const enable = (button, on) => button.setAttribute("aria-disabled", String(!on));

// JupyterLab has commands on single letters, "x" cuts a cell and "d d" deletes it: not from in here. It looks at
// what has the focus first, so each that may have it says so.
const suppressShortcuts = (focusable) => focusable.setAttribute("data-lm-suppress-shortcuts", "true");

class View {
  constructor(root, test, act) {
    this.test = test;
    this.buttons = [];
    this.root = element("div", "btk-listening", root);
    this.root.tabIndex = 0;
    this.root.setAttribute("role", "group");
    this.root.setAttribute("aria-label", `${test.kind} listening test`);
    suppressShortcuts(this.root);
    this.root.addEventListener("keydown", (event) => this.press(event));
    this.sentence = element("p", "btk-sentence", this.root);
    this.plays = element("div", "btk-row", this.root);
    const answers = element("div", "btk-row", this.root);
    this.answers = ANSWERS[test.kind].map(([key, choice, label]) =>
      this.button(answers, key, label, () => act.answer(choice)),
    );
    const foot = element("div", "btk-row", this.root);
    this.next = this.button(foot, "n", "Next", () => act.next());
    this.bar = element("progress", "btk-progress", foot);
    this.bar.max = test.nTrials;
    this.bar.setAttribute("aria-label", "trials that are answered");
    this.count = element("span", "btk-count", foot);
    this.says = element("p", "btk-says", this.root);
    this.says.setAttribute("role", "status");
    this.save = element("a", "btk-save", this.root, "Save the answers as CSV");
    suppressShortcuts(this.save);
    this.save.download = `${test.kind.toLowerCase()}-answers.csv`;
    this.play = act.play;
    this.silence = act.silence;
  }

  button(row, key, label, run) {
    const made = element("button", "btk-key", row, label);
    element("kbd", "", made, key.toUpperCase());
    made.type = "button";
    suppressShortcuts(made);
    made.setAttribute("aria-keyshortcuts", key.toUpperCase());
    const runIfOn = () => made.getAttribute("aria-disabled") !== "true" && run();
    made.addEventListener("click", runIfOn);
    this.buttons.push({ key, made, run: runIfOn });
    return made;
  }

  press(event) {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const key = event.key.toLowerCase();
    const found = this.buttons.find((each) => each.key === key && each.made.isConnected);
    if (key === "escape") this.silence();
    else if (!found) return;
    else found.run();
    event.preventDefault();
    event.stopPropagation();
  }

  draw(playing) {
    const { test } = this;
    if (this.plays.childElementCount !== test.sounds.length) {
      this.plays.replaceChildren();
      for (const name of test.sounds)
        this.button(this.plays, name.toLowerCase(), `Play ${name}`, () => this.play(name));
    }
    [...this.plays.children].forEach((made, k) => {
      made.setAttribute("aria-pressed", String(playing === test.sounds[k]));
      enable(made, test.trial !== null);
    });
    for (const made of this.answers) enable(made, test.mayAnswer);
    enable(this.next, test.mayGoOn);
    this.sentence.textContent = test.sentence ?? "";
    this.bar.value = test.done;
    this.count.textContent = `${test.done} of ${test.nTrials}`;
    if (this.says.textContent !== test.says) this.says.textContent = test.says;
    this.save.hidden = !test.result;
    if (test.result) this.save.href = `data:text/csv;charset=utf-8,${encodeURIComponent(test.result.csv)}`;
    Object.assign(this.root.dataset, { trial: test.trial ?? "", answered: Boolean(test.answered), playing: playing ?? "" });
  }

  remove() {
    this.root.remove();
  }
}

// Called once for each model: it has one test, however many views of it there are.
export default () => {
  const sounds = new Sounds();
  const views = new Set();
  let test = null;
  let send = () => {};
  const draw = () => views.forEach((view) => view.draw(sounds.playing));
  const act = {
    play(name) {
      sounds.play(name, draw);
      test.heard.add(name);
      draw();
    },
    silence() {
      sounds.stop();
      draw();
    },
    answer(choice) {
      sounds.stop();
      send({ kind: "answer", trial: test.trial, choice });
    },
    next() {
      sounds.stop();
      send({ kind: "next", trial: test.trial });
    },
  };

  function initialize({ model }) {
    test = new Test(model.get("kind"), model.get("n_trials"));
    const hear = (message, buffers) => {
      test.take(message);
      if (message.sounds) {
        const pcms = buffers.map(
          ({ buffer, byteOffset, byteLength }) => new Int16Array(buffer.slice(byteOffset, byteOffset + byteLength)),
        );
        sounds.set(message.sounds, pcms, model.get("sample_rate"));
      }
      draw();
    };
    model.on("msg:custom", hear);
    send = (message) => model.send(message);
    send({ kind: "ready" });
    return () => {
      model.off("msg:custom", hear);
      sounds.close();
    };
  }

  function render({ el }) {
    const view = new View(el, test, act);
    views.add(view);
    draw();
    return () => {
      views.delete(view);
      view.remove();
    };
  }

  return { initialize, render };
};
