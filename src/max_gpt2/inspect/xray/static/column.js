import { decode } from "xray/arrays";

/**
 * One column of the page: a model, a text and its ablations.
 *
 * Events: "state" (the state has changed; answers are stale), "view" (a new view has arrived: draw anew), "select"
 * (another position), "history" (it has grown or moved), "compared" (`differences` has changed), "failure" (`detail` is a sentence for the user).
 */
export class Column extends EventTarget {
  #source;
  #models;
  #state = { model: 0, ids: [], ablated: [], position: 0 };
  #shown = null; // the state of `view`
  #past = [];
  #future = [];
  #pending = new AbortController();
  #next = new Map(); // answers of "next" for the current state, which several panels need

  /** The last answer of `/api/view`; null before the first. */
  view = null;
  /** The surprisal here minus that in the other column, in bits: Float32Array [seq], NaN without a counterpart. */
  differences = null;

  /** Create a column without a text. `info` is the answer of `/api/page`. */
  constructor(source, info, model = 0) {
    super();
    this.#source = source;
    this.#models = info.models;
    this.#state = { ...this.#state, model };
  }

  get model() {
    return this.#state.model;
  }

  get ids() {
    return this.#state.ids;
  }

  get ablated() {
    return this.#state.ablated;
  }

  /** The index of the selected token. */
  get position() {
    return this.#state.position;
  }

  /** The entry of the model in `page.info.models`. */
  get info() {
    return this.#models[this.model];
  }

  get canGoBack() {
    return this.#past.length > 0;
  }

  get canGoForward() {
    return this.#future.length > 0;
  }

  /**
   * Return the answer for the current state, with its arrays decoded.
   *
   * Throws an AbortError if the state changes first, and an Error with a sentence for the user if there is no answer.
   */
  async ask(path, extra = {}) {
    if (path !== "next") return this.#request(path, extra);
    if (!this.#next.has(extra.position)) {
      const answers = this.#next;
      const answer = this.#request(path, extra);
      answers.set(extra.position, answer);
      if (answers.size > 8) answers.delete(answers.keys().next().value);
      answer.catch(() => answers.delete(extra.position));
    }
    return this.#next.get(extra.position);
  }

  async #request(path, extra) {
    const signal = this.#pending.signal;
    const { model, ids, ablated } = this.#state;
    const answer = await this.#source.ask(path, { model, ids, ablated, ...extra }, signal);
    signal.throwIfAborted();
    return decode(answer);
  }

  /**
   * Return the `ids` of a text, and a `warning` about characters that the tokenizer does not know.
   *
   * Throws an Error with a sentence for the user.
   */
  async encode(text, bos, model = this.model) {
    return this.#source.ask("encode", { model, text, bos });
  }

  /** Show the text of an exported file. */
  async openFile() {
    const view = await this.#source.ask("view", {});
    const ids = view.tokens.map((token) => token.id);
    await this.#load({ ...this.#state, ids, position: ids.length - 1 });
  }

  /**
   * Change the model, the ids, the ablations or the position, and keep the former state in the history.
   *
   * Resolves to true when the new view has arrived; to false if it failed, and the former state is back, or if the
   * state has changed again.
   */
  async change(change) {
    const former = this.#shown;
    const done = await this.#load({ ...this.#state, ...change });
    if (done && former) this.#past.push(former);
    if (done) this.#future = [];
    if (done) this.dispatchEvent(new Event("history"));
    return done;
  }

  /** Replace what follows the selected token by `ids`, and select the last of them. */
  async append(ids) {
    const all = [...this.ids.slice(0, this.position + 1), ...ids];
    return this.change({ ids: all, position: all.length - 1 });
  }

  /** Return to the state before the last change. */
  async back() {
    return this.#travel(this.#past, this.#future);
  }

  /** Undo `back`. */
  async forward() {
    return this.#travel(this.#future, this.#past);
  }

  async #travel(from, to) {
    if (!from.length) return false;
    const former = this.#shown;
    const done = await this.#load(from.at(-1));
    if (!done) return false;
    from.pop();
    to.push(former);
    this.dispatchEvent(new Event("history"));
    return true;
  }

  /** Ablate a head or, if `head` is null, the MLP of a layer; restore it if it is ablated. */
  async toggle(layer, head) {
    const others = this.ablated.filter((one) => one.layer !== layer || one.head !== head);
    const added = others.length === this.ablated.length ? [{ layer, head }] : [];
    return this.change({ ablated: [...others, ...added] });
  }

  isAblated(layer, head) {
    return this.ablated.some((one) => one.layer === layer && one.head === head);
  }

  /** Select a token by its index; the nearest one if it is out of range. */
  select(position) {
    const nearest = Math.max(0, Math.min(position, this.ids.length - 1));
    if (nearest === this.position) return;
    this.#state = { ...this.#state, position: nearest };
    if (this.#shown?.ids === this.ids) this.#shown = { ...this.#shown, position: nearest };
    this.dispatchEvent(new Event("select"));
  }

  /** Set `differences`. */
  compare(differences) {
    this.differences = differences;
    this.dispatchEvent(new Event("compared"));
  }

  /** Tell the user what failed; an AbortError is no failure. */
  fail(error) {
    if (error.name !== "AbortError") this.dispatchEvent(new CustomEvent("failure", { detail: error.message }));
  }

  /** Set the state and ask for its view; on failure return to the state that is shown. */
  async #load(state) {
    this.#enter(state);
    this.dispatchEvent(new Event("state"));
    const signal = this.#pending.signal;
    try {
      this.view = await this.#request("view", {});
    } catch (error) {
      if (signal.aborted) return false;
      this.fail(error);
      if (this.#shown) {
        this.#enter(this.#shown);
        this.dispatchEvent(new Event("view"));
      }
      return false;
    }
    this.#shown = { ...this.#state };
    this.differences = null;
    this.dispatchEvent(new Event("view"));
    return true;
  }

  #enter(state) {
    this.#pending.abort();
    this.#pending = new AbortController();
    this.#next = new Map();
    this.#state = state;
  }
}
