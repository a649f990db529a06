// A page that waits for what happens on a phone: asks how far it is, and is shown anew when that has changed. Without
// script the page of a ticket does the same by itself, every few seconds, and the one that asks for a friend has a button.
"use strict";

const card = document.querySelector("[data-watch]");
if (card) {
  const SOONEST = 2000;
  const LATEST = 15000;
  let wait = SOONEST;
  let timer = 0;

  const look = async () => {
    clearTimeout(timer);
    try {
      const answer = await fetch(card.dataset.watch, { credentials: "same-origin", cache: "no-store" });
      if (answer.ok) {
        const { state } = await answer.json();
        if (state !== card.dataset.state) return location.reload();
      }
    } catch {
      // No network at the moment: asked again later.
    }
    wait = Math.min(wait * 1.2, LATEST);
    timer = setTimeout(look, wait);
  };

  // Nobody sees a hidden page: it asks when it is seen again.
  document.addEventListener("visibilitychange", () => {
    clearTimeout(timer);
    if (document.visibilityState === "visible") {
      wait = SOONEST;
      look();
    }
  });
  timer = setTimeout(look, wait);
}
