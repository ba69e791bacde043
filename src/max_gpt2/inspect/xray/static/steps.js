import { count, element } from "xray/format";
import { format, tokenLabel } from "xray/arrays";

/**
 * Buttons that continue the text after the selected token: sample, take the most likely token, or force one.
 *
 * What follows the selected token is replaced; the history of the column keeps it.
 */
export class Steps {
  #working = false;
  #offered = [];

  /**
   * @param {Element} parent
   * @param {import("xray/column").Column} column
   * @param {object} page
   * @param {import("xray/sliders").Sliders} sliders
   */
  constructor(parent, column, page, sliders) {
    Object.assign(this, { column, page, sliders });
    this.live = !page.file;
    this.seed = element("input", { type: "number", min: 0, step: 1, value: 0, name: "seed" });
    this.note = element("p", { class: "hint" });
    this.choices = element("div", { class: "row choices", role: "group", "aria-label": "Append a token" });
    const box = element("div", { class: "steps", "data-live": true }, this.#buttons(), this.choices, this.#form());
    box.append(this.note);
    parent.append(box);
    for (const event of ["view", "select"]) column.addEventListener(event, () => this.#explain());
  }

  #buttons() {
    const title = "The seed of the next draw; it grows by 1 with each";
    return element(
      "div",
      { class: "row" },
      element("button", { type: "button", class: "primary", onclick: () => this.sample() }, "Sample"),
      element("button", { type: "button", onclick: () => this.greedy() }, "Most likely"),
      element("label", { title }, "Seed ", this.seed),
    );
  }

  #form() {
    this.text = element("input", { type: "text", name: "append", autocomplete: "off", spellcheck: "false" });
    this.text.setAttribute("aria-label", "Text to append");
    const submit = element("button", { type: "submit" }, "Append");
    const send = (event) => {
      event.preventDefault();
      this.#append();
    };
    return element("form", { class: "row", onsubmit: send }, this.text, submit);
  }

  /** Offer tokens `{id, name}` to append, the most likely first. */
  offer(tokens) {
    this.#offered = tokens;
    const buttons = tokens.map(({ name }, index) => {
      const title = `Append ${name} (key ${index + 1})`;
      const choose = () => this.choose(index);
      return element("button", { type: "button", title, onclick: choose }, element("code", {}, name));
    });
    this.choices.replaceChildren(...buttons);
  }

  /** Append the token that `offer` had at an index. */
  async choose(index) {
    const found = this.#offered[index];
    if (found) await this.force([found.id], found.name);
  }

  /** Draw a token from the distribution that the sliders leave. */
  async sample() {
    const seed = Number(this.seed.value);
    const { temperature, topK, topP } = this.sliders.settings;
    const drawn = await this.#draw({ temperature, top_k: topK, top_p: topP, seed }, "Sampled");
    if (drawn) this.seed.value = seed + 1;
  }

  /** Append the most likely token. */
  async greedy() {
    await this.#draw({ temperature: 0, top_k: 0, top_p: 1, seed: 0 }, "Appended");
  }

  async #draw(settings, verb) {
    return this.#work(async () => {
      const { column } = this;
      const ids = column.ids.slice(0, column.position + 1);
      const { id, probability } = await column.ask("sample", { ids, ...settings });
      const done = await column.append([id]);
      if (done) this.page.announce(`${verb} ${this.#lastToken()}, probability ${format(probability)}.`);
      return done;
    });
  }

  /** Append tokens. `name` is said to a screen reader. */
  async force(ids, name) {
    if (!this.live) return;
    await this.#work(async () => {
      if (await this.column.append(ids)) this.page.announce(`Appended ${name}.`);
    });
  }

  async #append() {
    const text = this.text.value;
    if (!text) return;
    await this.#work(async () => {
      const { ids } = await this.column.encode(text, false);
      if (!(await this.column.append(ids))) return;
      this.text.value = "";
      this.page.announce(`Appended ${count(ids.length)} ${ids.length === 1 ? "token" : "tokens"}.`);
    });
  }

  /** Do one thing at a time, and return what it returns; false if it fails, or if another one is not done. */
  async #work(action) {
    if (this.#working || !this.column.view) return false;
    this.#working = true;
    try {
      return await action();
    } catch (error) {
      this.column.fail(error);
      return false;
    } finally {
      this.#working = false;
    }
  }

  #lastToken() {
    return tokenLabel(this.column.view.tokens.at(-1).text);
  }

  #explain() {
    const { ids, position } = this.column;
    const after = ids.length - 1 - position;
    const dropped = `drops the ${count(after)} after it; Back restores them`;
    this.note.textContent = after > 0 ? `Continues after the selected token, and ${dropped}.` : "";
  }
}
