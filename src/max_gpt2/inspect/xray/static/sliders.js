import { count, element } from "xray/format";

/** Sliders for temperature, top_k and top_p, each with a field for the exact number. */
export class Sliders {
  /** The settings of the filters; see `xray/filters`. */
  settings = { temperature: 1, topK: 0, topP: 1 };

  /**
   * @param {Element} parent
   * @param {() => number} vocabSize return the number of tokens of the vocabulary
   * @param {() => void} changed called after each change of `settings`
   */
  constructor(parent, vocabSize, changed) {
    this.vocabSize = vocabSize;
    this.changed = changed;
    this.rows = [this.#temperature(), this.#topK(), this.#topP()];
    const reset = element("button", { type: "button", onclick: () => this.#reset() }, "Reset");
    parent.append(element("div", { class: "sliders", role: "group", "aria-label": "Sampling" }, ...this.rows, reset));
    this.show();
  }

  /** Show `settings`; those of top_k depend on the vocabulary. */
  show() {
    for (const row of this.rows) row.show();
  }

  #temperature() {
    return this.#row("temperature", "Temperature", {
      range: { min: 0, max: 2, step: 0.01 },
      number: { min: 0, max: 100, step: "any" },
      describe: (value) => (value === 0 ? "0, greedy" : String(value)),
    });
  }

  #topP() {
    return this.#row("topP", "top_p", {
      range: { min: 0.01, max: 1, step: 0.01 },
      number: { min: 1e-9, max: 1, step: "any" },
      describe: (value) => (value === 1 ? "1, off" : String(value)),
    });
  }

  /** The slider of top_k is logarithmic, and its right end is off, as that of top_p. */
  #topK() {
    const steps = 200;
    return this.#row("topK", "top_k", {
      range: { min: 0, max: steps, step: 1 },
      number: { min: 0, step: 1 },
      describe: (value) => (value === 0 ? "off" : count(value)),
      fromRange: (place) => (place === steps ? 0 : Math.round(this.vocabSize() ** (place / steps))),
      toRange: (value) => (value === 0 ? steps : Math.floor((steps * Math.log(value)) / Math.log(this.vocabSize()))),
    });
  }

  #row(name, title, { range, number, describe, fromRange = Number, toRange = Number }) {
    const slider = element("input", { type: "range", ...range, "aria-label": title, "data-setting": name });
    const field = element("input", { type: "number", ...number, "aria-label": `${title}, exact`, "data-exact": name });
    const note = element("span", { class: "muted" });
    const row = element("div", { class: "slider" }, element("span", {}, title), slider, field, note);
    row.show = () => {
      const value = this.settings[name];
      slider.value = toRange(value);
      slider.setAttribute("aria-valuetext", describe(value));
      if (document.activeElement !== field) field.value = value;
      note.textContent = describe(value).match(/greedy|off/)?.[0] ?? "";
    };
    slider.addEventListener("input", () => this.#set(name, fromRange(Number(slider.value))));
    field.addEventListener("input", () => {
      if (field.value !== "" && field.checkValidity()) this.#set(name, Number(field.value));
    });
    field.addEventListener("blur", () => row.show());
    return row;
  }

  #set(name, value) {
    this.settings = { ...this.settings, [name]: value };
    this.show();
    this.changed();
  }

  #reset() {
    this.settings = { temperature: 1, topK: 0, topP: 1 };
    this.show();
    this.changed();
  }
}
