// The row of portraits to choose from, and the visitor's own picture.

export class Portraits {
  /** `chosen` hears of every choice. */
  constructor(list, preview, stage, chosen) {
    Object.assign(this, { list, preview, chosen, file: null, name: null });
    this.#acceptDrops(stage);
  }

  async load() {
    const answer = await fetch("portraits").catch(() => null);
    const names = answer?.ok ? await answer.json() : [];
    names.forEach((name) => this.#tile(name, `portraits/${encodeURIComponent(name)}`));
    this.own = this.#ownTile();
    const first = this.list.querySelector("input[type=radio]");
    if (first) first.click();
  }

  get isChosen() {
    return this.name !== null || this.file !== null;
  }

  #tile(name, address) {
    const label = document.createElement("label"), words = name.replaceAll("_", " ");
    label.className = "face";
    label.innerHTML = `<img alt=""><input type="radio" name="portrait">`;
    label.querySelector("img").src = address;
    const choice = label.querySelector("input");
    choice.setAttribute("aria-label", words);
    choice.onchange = () => this.#choose({ name, file: null, address, words });
    this.list.append(label);
    return label;
  }

  #ownTile() {
    const label = document.createElement("label");
    label.className = "face";
    label.innerHTML = `<span>Your own</span><input type="file" accept="image/*" aria-label="Your own picture">`;
    label.querySelector("input").onchange = ({ target }) => target.files[0] && this.take(target.files[0]);
    this.list.append(label);
    return label;
  }

  /** A file from the disk, by choice or by drop. */
  take(file) {
    if (!file.type.startsWith("image/")) return;
    for (const choice of this.list.querySelectorAll("input[type=radio]")) choice.checked = false;
    const address = URL.createObjectURL(file);
    this.#choose({ name: null, file, address, words: "your own picture" });
  }

  #choose({ name, file, address, words }) {
    Object.assign(this, { name, file });
    this.preview.src = address;
    this.preview.alt = `The chosen portrait: ${words}`;
    this.preview.hidden = false;
    this.chosen();
  }

  #acceptDrops(stage) {
    addEventListener("dragover", (event) => { event.preventDefault(); stage.classList.add("over"); });
    addEventListener("dragleave", () => stage.classList.remove("over"));
    addEventListener("drop", (event) => {
      event.preventDefault();
      stage.classList.remove("over");
      const file = event.dataTransfer.files[0];
      if (file) stage.dispatchEvent(new CustomEvent("file", { detail: file }));
    });
  }
}
