/**
 * Buttons that save a picture as PNG or SVG, and its data as JSON.
 */

/** Save a file. @param {string} name @param {string} url a data URL or an object URL */
function save(name, url) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
}

/** Save a value as a JSON file; arrays become nested lists. */
function saveJson(name, value) {
  const url = URL.createObjectURL(new Blob([JSON.stringify(value)], { type: "application/json" }));
  save(name, url);
  setTimeout(() => URL.revokeObjectURL(url), 10_000);
}

/**
 * Add the buttons PNG, SVG and Data to an element.
 *
 * @param {Element} container
 * @param {string|(() => string)} name the name of the files without their suffix
 * @param {{png?: () => Promise<string>, svg?: () => Promise<string>, data?: () => object}} sources
 *   pictures are data URLs; a button without a source is left out
 */
export function exportButtons(container, name, { png, svg, data }) {
  const file = (suffix) => `${typeof name === "function" ? name() : name}.${suffix}`;
  const add = (text, title, action) => {
    const button = document.createElement("button");
    Object.assign(button, { type: "button", className: "figure-button", textContent: text, title });
    button.addEventListener("click", action);
    container.append(button);
  };
  if (png) add("PNG", "Save the picture as PNG", async () => save(file("png"), await png()));
  if (svg) add("SVG", "Save the picture as SVG", async () => save(file("svg"), await svg()));
  if (data) add("Data", "Save the data as JSON", async () => saveJson(file("json"), await data()));
}
