import { Column } from "xray/column";
import { mountControls } from "xray/controls";
import { count, element } from "xray/format";
import { openSource } from "xray/source";
import { mountTheme } from "xray/theme";
import { mountTokens } from "xray/tokens";

const mounts = { controls: mountControls, tokens: mountTokens };
/** Panels of other modules: name of the module and its function. */
const PANELS = {
  attribution: "mountAttribution",
  attention: "mountAttention",
  lens: "mountLens",
  norms: "mountNorms",
};

/** Start the page. */
async function start() {
  mountTheme(document.getElementById("theme"));
  const source = openSource();
  const info = await source.page();
  const page = { info, file: source.file, announce, alert: showAlert };
  document.documentElement.toggleAttribute("data-file", source.file);
  document.getElementById("version").textContent = info.version;
  for (const [name, mount] of Object.entries(PANELS)) {
    const module = await import(`xray/${name}`).catch(() => null);
    if (module) mounts[name] = module[mount];
  }
  showVerdicts(info.models);
  const column = addColumn(source, page, 0);
  if (source.file) await column.openFile();
  else if (info.text !== null) {
    const ids = await column.encode(info.text, false);
    await column.change({ ids, position: ids.length - 1 });
  }
}

/** Add a column to the page, with all panels, and return it. */
function addColumn(source, page, model) {
  const column = new Column(source, page.info, model);
  const section = document.getElementById("column-template").content.cloneNode(true).firstElementChild;
  document.getElementById("columns").append(section);
  column.addEventListener("failure", (event) => showAlert(event.detail));
  column.addEventListener("state", () => showAlert(""));
  for (const panel of section.querySelectorAll("[data-panel]")) {
    mounts[panel.dataset.panel]?.(panel.querySelector(".panel-body"), column, page);
  }
  return column;
}

/** Show the verdicts of `max-gpt2 verify` at the foot of the page. */
function showVerdicts(models) {
  const rows = models.map(({ name, n_layer, n_head, parameters, verdict }) => {
    const state = verdict.passed === null ? "unknown" : verdict.passed ? "passed" : "failed";
    const sizes = `${n_layer} layers, ${n_head} heads, ${count(parameters)} parameters. `;
    return element("p", { "data-verdict": state }, element("b", {}, name), `: ${sizes}${verdict.text}`);
  });
  document.getElementById("verdicts").replaceChildren(...rows);
}

/** Say something to a screen reader. */
function announce(text) {
  document.getElementById("announcer").textContent = text;
}

/** Show an error, or none for an empty text. */
function showAlert(text) {
  const box = document.getElementById("alert");
  box.replaceChildren();
  if (!text) return;
  const dismiss = element("button", { type: "button", onclick: () => box.replaceChildren() }, "Dismiss");
  box.append(element("p", {}, text), dismiss);
}

start().catch((error) => showAlert(error.message));
