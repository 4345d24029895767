/* Quizzes and predictions that can be answered. On paper, in Jupyter and without scripts a question is a paragraph,
   a list of options and a <details> with the answer; here options become radio buttons. Nodes are
   moved and never copied, so formulas survive whether MathJax comes before or after. */
(() => {
  "use strict";

  const OPTION = /^\s*\(([a-z])\)/;
  const BEGINNING = /^(\d+\.|Predict, then run\.)$/;

  function letterOf(node) {
    const match = node.textContent.match(OPTION);
    return match ? match[1] : null;
  }

  /** The parts of the question that ends in these <details>; null where its form is another. */
  function partsOf(details) {
    const list = details.previousElementSibling;
    if (!list || list.tagName !== "UL") return null;
    const letters = [...list.children].map((item) => letterOf(item));
    // The explanation begins with the right letter in bold: (b).
    const bold = details.querySelector("summary ~ p > strong:first-child");
    const right = bold && letterOf(bold);
    if (!letters.every(Boolean) || !letters.includes(right)) return null;
    const texts = [];
    for (let node = list.previousElementSibling; node; node = node.previousElementSibling) {
      if (/^(H\d|DETAILS|FIELDSET)$/.test(node.tagName)) return null;
      texts.unshift(node);
      const first = node.firstElementChild;
      if (first && first.tagName === "STRONG" && BEGINNING.test(first.textContent.trim())) {
        return { texts, list, letters, right };
      }
    }
    return null;
  }

  function newNode(tag, attributes) {
    const node = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    return node;
  }

  function enhance(details, name, onAnswer) {
    const parts = partsOf(details);
    if (!parts) return null;
    const { texts, list, letters, right } = parts;
    const question = newNode("div", { id: `${name}-text` });
    const group = newNode("fieldset", { class: "quiz-question", "aria-labelledby": question.id });
    const verdict = newNode("p", { class: "quiz-verdict", role: "status" });
    texts[0].before(group);
    question.append(...texts);
    group.append(question, list, verdict, details);
    list.classList.add("quiz-options");

    const answer = { chosen: false, right: false };
    [...list.children].forEach((item, i) => {
      const label = newNode("label", {});
      const value = letters[i];
      const radio = newNode("input", { type: "radio", name, value, autocomplete: "off" });
      const text = newNode("span", {});
      // A label may not hold paragraphs, only what is in them.
      const only = item.children.length === 1 && item.firstElementChild;
      text.append(...(only && only.tagName === "P" ? only : item).childNodes);
      label.append(radio, text);
      item.replaceChildren(label);
      radio.addEventListener("change", () => {
        answer.chosen = true;
        answer.right = value === right;
        verdict.textContent = answer.right
          ? "✓ Right."
          : `✗ Not right: the answer is (${right}).`;
        verdict.dataset.right = answer.right;
        details.open = true;
        onAnswer();
      });
    });
    return answer;
  }

  const section = document.getElementById("quiz");
  let predictions = 0;
  for (const details of [...document.querySelectorAll(".bd-article details:not(.hide)")]) {
    if (section && section.contains(details)) continue;
    if (enhance(details, `prediction-${predictions + 1}`, () => {})) predictions += 1;
  }

  if (!section) return;
  const score = newNode("p", { class: "quiz-score", role: "status" });
  const answers = [];
  const count = () => {
    const right = answers.filter((answer) => answer.right).length;
    const open = answers.filter((answer) => !answer.chosen).length;
    const rest = open ? `, ${open} still to answer` : "";
    score.textContent = `${right} of ${answers.length} right${rest}.`;
  };
  for (const details of [...section.querySelectorAll(":scope > details")]) {
    const answer = enhance(details, `quiz-${answers.length + 1}`, count);
    if (answer) answers.push(answer);
  }
  if (answers.length) {
    section.append(score);
    count();
  }
})();
