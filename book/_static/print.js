/* Paper is white: a page that is shown in the dark theme is printed in the light one. */
(() => {
  "use strict";
  const root = document.documentElement;
  let shown = null;
  addEventListener("beforeprint", () => {
    shown = root.dataset.theme;
    root.dataset.theme = "light";
  });
  addEventListener("afterprint", () => {
    root.dataset.theme = shown;
  });
})();
