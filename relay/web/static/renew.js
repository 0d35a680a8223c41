// Puts others in the place of an element's children, and keeps the focus where it was: who works
// with the keyboard, or listens, would else be thrown out of a list each time it is drawn anew.

const ROW = "[data-key], [data-request], [data-conversation]";

/**
 * What had the focus gives it to its like: what is called the same, in the same row. Where there
 * is none any more, `otherwise(had)` says who gets it.
 */
export function renew(parent, children, otherwise = () => null) {
  const had = document.activeElement;
  const name = parent !== had && parent.contains(had) ? called(had) : null;
  parent.replaceChildren(...children);
  if (name === null || had.isConnected) return;
  const like = [...parent.querySelectorAll("button, a, [tabindex]")].find((one) => !one.disabled && called(one) === name);
  (like ?? otherwise(had))?.focus({ preventScroll: Boolean(like) });
}

function called(element) {
  const { key, request, conversation } = element.closest(ROW)?.dataset ?? {};
  const { act, sayLabel } = element.dataset;
  const name = act ?? sayLabel ?? element.getAttribute("aria-label") ?? (element.matches("button, a") ? element.textContent : element.className);
  return `${key ?? request ?? conversation ?? ""} ${name}`;
}
