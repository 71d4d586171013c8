// Reasoning told from the answer while the text streams in: `ReasoningSplitter` of model/generation/reasoning.py, for one
// who knows the prompt. A text that does not begin with <think> is an answer; white space around either part is dropped.

const OPEN = "<think>", CLOSE = "</think>";

// Length of the end of `text` that may be the beginning of the closing tag.
function tailOfTag(text) {
  for (let length = Math.min(CLOSE.length - 1, text.length); length > 0; length -= 1) {
    if (CLOSE.startsWith(text.slice(-length))) return length;
  }
  return 0;
}

export class Splitter {
  #held = "";
  #state = "start";
  #begun = false;

  // What can be told apart for sure: {reasoning, content}.
  feed(text) {
    const piece = { reasoning: "", content: "" };
    this.#held += text;
    if (this.#state === "start") {
      const begun = this.#held.trimStart();
      if (begun.startsWith(OPEN)) {
        this.#held = begun.slice(OPEN.length);
        this.#state = "reasoning";
      } else if (OPEN.startsWith(begun)) return piece;
      else this.#state = "answer";
    }
    if (this.#state === "reasoning") {
      const place = this.#held.indexOf(CLOSE), thought = place < 0 ? this.#held : this.#held.slice(0, place);
      const sure = thought.length - (place < 0 ? tailOfTag(thought) : 0), rest = place < 0 ? "" : this.#held.slice(place + CLOSE.length);
      piece.reasoning = this.#tell(thought.slice(0, sure), thought.slice(sure));
      if (place < 0) return piece;
      this.#held = rest;
      this.#state = "answer";
      this.#begun = false;
    }
    piece.content = this.#tell(this.#held);
    return piece;
  }

  // What was held back.
  end() {
    const rest = this.#tell(this.#held);
    return this.#state === "reasoning" ? { reasoning: rest, content: "" } : { reasoning: "", content: rest };
  }

  // `text` without the white space at its end, which is held with `later`.
  #tell(text, later = "") {
    const from = this.#begun ? text : text.trimStart(), told = from.trimEnd();
    this.#held = from.slice(told.length) + later;
    this.#begun ||= Boolean(told);
    return told;
  }
}
