// Pictures that go along with a question: pasted, dropped or picked, shown before they are sent.

import { notice } from "./dialogs.js";
import { iconButton, make } from "./elements.js";
import { say } from "./words.js";

const TYPES = new Set(["image/png", "image/jpeg", "image/gif", "image/webp"]);
const LARGEST_BYTES = 1_500_000; // as it is; what is larger is made smaller
const LONGEST_SIDE = 2048; // of pixels: models see no more

export const isPicture = (url) => /^data:image\/(png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+$/.test(url);

export class Pictures {
  constructor(element) {
    this.element = element;
    this.urls = [];
  }

  /** The pictures, which are then gone from here. */
  take() {
    const taken = this.urls;
    this.urls = [];
    this.#show();
    return taken;
  }

  async add(files) {
    for (const file of files) {
      try {
        this.urls.push(await read(file));
      } catch {
        notice(say("pictureWrong", { name: file.name }), true);
      }
    }
    this.#show();
  }

  #show() {
    const items = this.urls.map((url, index) => {
      const remove = iconButton("close", "pictureRemove", () => {
        this.urls.splice(index, 1);
        this.#show();
      });
      return make("li", {}, make("img", { src: url, alt: `${say("picture")} ${index + 1}` }), remove);
    });
    this.element.replaceChildren(...items);
    this.element.hidden = items.length === 0;
  }
}

async function read(file) {
  if (!TYPES.has(file.type)) throw new TypeError(file.type);
  const image = await createImageBitmap(file); // fails for what only calls itself a picture
  if (file.size <= LARGEST_BYTES) return asUrl(file);
  const scale = Math.min(1, LONGEST_SIDE / Math.max(image.width, image.height));
  const canvas = make("canvas", { width: Math.round(image.width * scale), height: Math.round(image.height * scale) });
  canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.85);
}

function asUrl(file) {
  return new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(file);
  });
}
