/**
 * Attention of every head: a grid of thumbnails, a row for each layer, and one head in detail.
 */

import { colorTable, THEME_EVENT, themeOf, watchTheme } from "xray/colors";
import { HeadDetail } from "xray/head";
import { watchNear } from "xray/panel";

/** Side of a thumbnail in pixels, at most. */
const SIZE = 64;
/** Milliseconds that a thumbnail is pointed at before its head is shown. */
const HOVER_DELAY = 120;
/** Milliseconds that a row stays near the screen before it is asked for. */
const SCROLL_DELAY = 80;

/** Return the place among the colors of an attention in 0 .. 1: small ones are told apart. */
export function attentionCurve(value) {
  return Math.sqrt(value);
}

/**
 * Show the attention of a column.
 *
 * @param {Element} element
 * @param {import("xray/column").Column} column
 * @param {object} page
 */
export function mountAttention(element, column, page) {
  return new AttentionPanel(element, column, page);
}

class AttentionPanel {
  constructor(element, column, page) {
    Object.assign(this, { column, page, pointer: "mouse" });
    element.classList.add("attention");
    const hint = document.createElement("p");
    hint.className = "attention-hint";
    hint.textContent = hintText(page.file);
    const parts = document.createElement("div");
    parts.className = "attention-parts";
    element.append(hint, parts);
    this.detail = new HeadDetail(parts, column, page);
    this.grid = document.createElement("div");
    Object.assign(this.grid, { className: "attention-grid", role: "grid" });
    this.grid.setAttribute("aria-label", "Attention heads");
    parts.append(this.grid);
    this.queue = new RowQueue();
    this.#build();
    this.#listen();
  }

  #build() {
    const { n_layer: layers, n_head: heads } = this.column.info;
    this.built = this.column.info;
    this.rows?.forEach((row) => row.unload());
    this.rows = Array.from({ length: layers }, (_, layer) => new LayerRow(this, layer, heads));
    this.grid.style.setProperty("--heads", heads);
    this.grid.replaceChildren(...this.rows.map((row) => row.element));
    this.#rove(this.rows[0].buttons[0]);
    this.#colors();
  }

  #listen() {
    const { column, grid } = this;
    column.addEventListener("state", () => {
      if (column.info !== this.built) this.#build();
      for (const row of this.rows) row.expire();
      this.detail.expire();
    });
    column.addEventListener("view", () => {
      for (const row of this.rows) row.request();
      this.detail.refresh();
    });
    grid.addEventListener("pointerdown", (event) => (this.pointer = event.pointerType));
    grid.addEventListener("keydown", (event) => this.#key(event));
    grid.addEventListener("click", (event) => this.#click(event));
    grid.addEventListener("focusin", ({ target }) => this.#rove(target.closest("button")));
    grid.addEventListener("focusin", ({ target }) => this.#point(headOf(target)));
    let seen = "";
    grid.addEventListener("pointerover", (event) => {
      // The page can also move below the pointer: then nobody has pointed at another head.
      const place = `${event.screenX},${event.screenY}`;
      if (event.pointerType !== "touch" && place !== seen) this.#point(headOf(event.target));
      seen = place;
    });
    grid.addEventListener("pointermove", (event) => (seen = `${event.screenX},${event.screenY}`));
    grid.addEventListener("pointerleave", () => clearTimeout(this.timer));
    watchTheme();
    const follow = () => {
      if (!grid.isConnected) document.removeEventListener(THEME_EVENT, follow);
      else this.#colors();
    };
    document.addEventListener(THEME_EVENT, follow);
  }

  #colors() {
    this.table = colorTable(themeOf(this.grid).sequential, attentionCurve);
    for (const row of this.rows) row.paint();
  }

  /** Show a head in detail, if it is still pointed at in a moment. */
  #point(place) {
    clearTimeout(this.timer);
    if (place) this.timer = setTimeout(() => this.detail.show(place.layer, place.head), HOVER_DELAY);
  }

  #click(event) {
    const button = event.target.closest("button");
    if (!button) return;
    const place = headOf(button);
    const touched = event.detail > 0 && this.pointer === "touch";
    if (place && (touched || this.page.file)) {
      clearTimeout(this.timer);
      this.detail.show(place.layer, place.head);
      return;
    }
    if (this.page.file) return;
    this.column.toggle(Number(button.dataset.layer), place ? place.head : null);
  }

  /** Make one button the one that Tab reaches. */
  #rove(button) {
    if (!button || !this.grid.contains(button)) return;
    if (this.roving) this.roving.tabIndex = -1;
    this.roving = button;
    button.tabIndex = 0;
  }

  #key(event) {
    const layer = Number(event.target.dataset.layer);
    const buttons = this.rows[layer]?.all;
    const index = buttons?.indexOf(event.target) ?? -1;
    if (index < 0 || event.ctrlKey || event.altKey || event.metaKey) return;
    const moves = {
      ArrowLeft: [layer, index - 1],
      ArrowRight: [layer, index + 1],
      ArrowUp: [layer - 1, index],
      ArrowDown: [layer + 1, index],
      Home: [event.shiftKey ? 0 : layer, 0],
      End: [layer, buttons.length - 1],
      PageUp: [Math.max(0, layer - 6), index],
      PageDown: [Math.min(this.rows.length - 1, layer + 6), index],
    };
    const target = moves[event.key];
    if (!target) return;
    event.preventDefault();
    this.rows[target[0]]?.all[target[1]]?.focus();
  }
}

function hintText(file) {
  if (matchMedia("(hover: none)").matches) return "Tap a head to see it in detail.";
  const look = "Point at a head, or move to it with the arrow keys, to see it in detail";
  return file ? `${look}.` : `${look}; click, or press Enter, to ablate or restore it.`;
}

function headOf(target) {
  const button = target.closest?.("button[data-head]");
  return button ? { layer: Number(button.dataset.layer), head: Number(button.dataset.head) } : null;
}

/** A row of the grid: a button for the MLP, and a thumbnail for each head. */
class LayerRow {
  constructor(panel, layer, heads) {
    Object.assign(this, { panel, layer, near: false, far: false, stale: true, thumbnails: null });
    this.element = document.createElement("div");
    Object.assign(this.element, { className: "attention-row", role: "row" });
    this.name = document.createElement("span");
    this.name.textContent = `Layer ${layer}`;
    this.mlp = this.#button("MLP", "attention-mlp", "rowheader");
    this.mlp.disabled = panel.page.file;
    this.mlp.parentElement.prepend(this.name);
    this.cells = document.createElement("div");
    Object.assign(this.cells, { className: "attention-cells", role: "presentation" });
    this.note = document.createElement("p");
    this.note.className = "figure-message";
    this.buttons = Array.from({ length: heads }, (_, head) => {
      const button = this.#button("", "attention-head", "gridcell", this.cells);
      button.dataset.head = head;
      const canvas = document.createElement("canvas");
      canvas.width = canvas.height = 0;
      button.append(canvas, String(head));
      return button;
    });
    this.all = this.mlp.disabled ? this.buttons : [this.mlp, ...this.buttons];
    this.element.append(this.cells, this.note);
    this.element.dataset.drawn = "false";
    this.#state();
    watchNear(this.element, (near) => this.#approach(near), "150px 0px");
    // Thumbnails further away than several screens are dropped.
    watchNear(
      this.element,
      (near) => {
        this.far = !near;
        if (this.far) this.unload();
      },
      "3000px 0px",
    );
  }

  #button(text, className, role, container = this.element) {
    const cell = document.createElement("div");
    cell.setAttribute("role", role);
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className, textContent: text, tabIndex: -1 });
    button.dataset.layer = this.layer;
    cell.append(button);
    container.append(cell);
    return button;
  }

  #approach(near) {
    this.near = near;
    clearTimeout(this.timer);
    const ask = () => this.panel.column.view && this.panel.queue.add(this);
    if (near && this.stale) this.timer = setTimeout(ask, SCROLL_DELAY);
  }

  /** Note that the state has changed. */
  expire() {
    this.stale = true;
    this.#state();
    this.cells.setAttribute("aria-busy", "true");
  }

  /** Ask for the thumbnails of the new state, if the row is near the screen. */
  request() {
    this.stale = true;
    this.#state();
    if (this.near) this.panel.queue.add(this);
  }

  #state() {
    const { column } = this.panel;
    const mark = (button, name, ablated) => {
      button.setAttribute("aria-pressed", String(ablated));
      button.setAttribute("aria-label", `${name}${ablated ? ", ablated" : ""}`);
    };
    mark(this.mlp, `Ablate the MLP of layer ${this.layer}`, column.isAblated(this.layer, null));
    this.buttons.forEach((button, head) =>
      mark(button, `Layer ${this.layer}, head ${head}`, column.isAblated(this.layer, head)),
    );
  }

  /** Ask for the thumbnails and draw them. */
  async load() {
    if (!this.near || !this.stale) return;
    this.stale = false;
    try {
      const { thumbnails } = await this.panel.column.ask("attention", { layer: this.layer, size: SIZE });
      this.thumbnails = thumbnails;
      if (this.far) this.unload();
      this.note.textContent = "";
      if (!this.stale) this.cells.removeAttribute("aria-busy");
      this.paint();
    } catch (error) {
      if (error.name === "AbortError") {
        this.stale = true;
        return;
      }
      this.cells.removeAttribute("aria-busy");
      this.note.textContent = error.message;
    }
  }

  /** Draw the thumbnails in the colors of the page. */
  paint() {
    if (!this.thumbnails) return;
    this.element.dataset.drawn = "true";
    const [, side] = this.thumbnails.shape;
    const colors = new Uint32Array(this.panel.table.buffer);
    const pixels = new Uint32Array(side * side);
    this.buttons.forEach((button, head) => {
      const values = this.thumbnails.row(head);
      for (let index = 0; index < values.length; index++) pixels[index] = colors[values[index]];
      const canvas = button.firstChild;
      canvas.width = canvas.height = side;
      canvas.getContext("2d").putImageData(new ImageData(new Uint8ClampedArray(pixels.buffer), side, side), 0, 0);
    });
  }

  /** Drop the thumbnails. */
  unload() {
    if (!this.thumbnails) return;
    this.thumbnails = null;
    this.stale = true;
    this.element.dataset.drawn = "false";
    for (const button of this.buttons) button.firstChild.width = button.firstChild.height = 0;
  }
}

/** Asks for one row at a time: those near the screen, in their order. */
class RowQueue {
  constructor() {
    this.waiting = new Set();
    this.running = false;
  }

  /** Load a row once those before it are there. */
  async add(row) {
    this.waiting.add(row);
    if (this.running) return;
    this.running = true;
    while (this.waiting.size) {
      const first = [...this.waiting].sort((one, other) => one.layer - other.layer)[0];
      this.waiting.delete(first);
      await first.load();
    }
    this.running = false;
  }
}
