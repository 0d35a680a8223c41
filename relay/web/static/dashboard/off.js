// Where there is no admin API: its page says so, in the reader's language.

import { switchLanguage, translate } from "./words.js";

translate();
document.getElementById("language").addEventListener("click", () => {
  switchLanguage();
  translate();
});
