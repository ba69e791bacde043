/**
 * When a panel asks and draws: only near the screen, and anew after each change.
 */

/**
 * Call back when an element comes near the screen, and when it leaves.
 *
 * @param {Element} element
 * @param {(near: boolean) => void} callback
 * @param {string} margin how far from the screen, as in IntersectionObserver
 */
export function watchNear(element, callback, margin = "300px 0px") {
  const observer = new IntersectionObserver((entries) => callback(entries.at(-1).isIntersecting), {
    rootMargin: margin,
  });
  observer.observe(element);
}

/** Asks the column for what a panel shows, and hands over the answer, busy states and errors. */
export class Loader {
  /**
   * @param {Element} element
   * @param {import("xray/column").Column} column
   * @param {{load: () => Promise<object>, draw: (answer: object) => void, busy: () => void,
   *   fail: (sentence: string) => void}} panel
   */
  constructor(element, column, panel) {
    Object.assign(this, { column, panel, near: false, stale: true, turn: 0, answer: null });
    column.addEventListener("state", () => this.#expire());
    column.addEventListener("view", () => {
      this.#expire();
      this.#load();
    });
    watchNear(element, (near) => {
      this.near = near;
      this.#load();
    });
    if (column.ids.length) panel.busy();
    else panel.fail("There is no text yet.");
  }

  /** Ask anew, for a request that has changed. */
  reload() {
    this.#expire();
    this.#load();
  }

  /** Draw the answer anew, if it is there. */
  redraw() {
    if (this.answer) this.panel.draw(this.answer);
  }

  #expire() {
    this.turn += 1;
    this.stale = true;
    this.answer = null;
    this.panel.busy();
  }

  async #load() {
    if (!this.near || !this.stale || !this.column.view) return;
    this.stale = false;
    const turn = this.turn;
    try {
      const answer = await this.panel.load();
      if (turn !== this.turn) return;
      this.answer = answer;
      this.panel.draw(answer);
    } catch (error) {
      if (turn === this.turn && error.name !== "AbortError") this.panel.fail(error.message);
    }
  }
}

/** Return the state of a column as it goes with exported data. */
export function stateOf(column) {
  const { ids, ablated, view, info } = column;
  return { model: info.name, ids: [...ids], tokens: view.tokens.map(({ text }) => text), ablated: [...ablated] };
}

/**
 * Return a labelled `<select>`.
 *
 * @param {string} label
 * @param {[string, string][]} options values and texts
 * @param {(value: string) => void} change
 */
export function selectField(label, options, change) {
  const field = document.createElement("label");
  field.className = "panel-field";
  const select = document.createElement("select");
  select.setAttribute("aria-label", label); // the text of a label around it would include all options
  for (const [value, text] of options) select.add(new Option(text, value));
  select.addEventListener("change", () => change(select.value));
  field.append(`${label} `, select);
  return field;
}

/** Return a button. */
export function actionButton(text, action) {
  const button = document.createElement("button");
  Object.assign(button, { type: "button", textContent: text });
  button.addEventListener("click", action);
  return button;
}

/** Return the bar for the controls of a panel, added to an element. */
export function controlBar(element) {
  const bar = document.createElement("div");
  bar.className = "panel-bar";
  element.append(bar);
  return bar;
}
