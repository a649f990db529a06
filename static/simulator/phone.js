// Keeps a phone's chat fresh, and does what is tapped without leaving the page. Without scripts the forms do the same.
"use strict";
(() => {
  const phone = document.querySelector("[data-chat]");
  const chat = document.getElementById("chat");
  const sent = document.getElementById("sent");
  if (!phone || !chat || !sent) return;
  let shown = null;

  const toEnd = () => {
    const messages = chat.querySelector(".messages");
    if (messages) messages.scrollTop = messages.scrollHeight;
  };

  const refresh = async () => {
    try {
      const answer = await fetch(phone.dataset.chat, { cache: "no-store" });
      if (!answer.ok) return;
      const text = await answer.text();
      if (text !== shown) {
        chat.innerHTML = text;
        toEnd();
      }
      shown = text;
    } catch {
      // The simulator is away; the next try may find it back.
    }
  };

  const follow = async () => {
    await refresh();
    setTimeout(follow, 1000);
  };

  document.addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    const fields = new URLSearchParams(new FormData(form, event.submitter));
    if (form.classList.contains("compose")) form.elements.text.value = "";
    sent.textContent = "";
    try {
      // Not `form.action`: a button of that name would be found instead.
      const answer = await fetch(form.getAttribute("action"), { method: "POST", body: fields });
      if (!answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        sent.textContent = page.querySelector("main p")?.textContent ?? "That is not possible.";
      }
    } catch {
      sent.textContent = "The simulator is away.";
    }
    await refresh();
  });

  toEnd();
  follow();
})();
