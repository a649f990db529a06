// Keeps a phone's chat fresh, and says what a tap would send.
"use strict";
(() => {
  const phone = document.querySelector("[data-chat]");
  const chat = document.getElementById("chat");
  const sent = document.getElementById("sent");
  if (!phone || !chat) return;
  let shown = null;

  const toEnd = () => {
    const messages = chat.querySelector(".messages");
    if (messages) messages.scrollTop = messages.scrollHeight;
  };

  const refresh = async () => {
    try {
      const answer = await fetch(phone.dataset.chat, { cache: "no-store" });
      if (answer.ok) {
        const text = await answer.text();
        if (text !== shown) {
          chat.innerHTML = text;
          toEnd();
        }
        shown = text;
      }
    } catch {
      // The simulator is away; the next try may find it back.
    }
    setTimeout(refresh, 1000);
  };

  chat.addEventListener("click", (event) => {
    const target = event.target.closest("[data-send]");
    if (target && sent) sent.textContent = target.dataset.send;
  });

  toEnd();
  refresh();
})();
