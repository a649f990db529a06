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
        const before = chat.querySelector(".rich-menu");
        chat.innerHTML = text;
        // Unfolded or not: that is the person's choice, also when a tab brings another menu.
        const menu = chat.querySelector(".rich-menu");
        if (before && menu) menu.open = before.open;
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

  // What a tap does to the phone itself comes back in the address that it leads to.
  const obey = (params) => {
    const menu = chat.querySelector(".rich-menu");
    if (menu && params.has("menu")) menu.open = params.get("menu") === "open";
    if (params.has("text")) {
      const field = phone.querySelector(".compose").elements.text;
      field.value = params.get("text");
      field.focus();
    }
    if (params.has("copied")) {
      navigator.clipboard?.writeText(params.get("copied")).catch(() => {});
      sent.textContent = `Copied: ${params.get("copied")}`;
    }
  };

  const pick = document.getElementById("pick");
  const ask = (action) => {
    const { action: field, picked } = pick.querySelector("form").elements;
    const moment = (text) => (text ?? "").replace("t", "T");
    field.value = JSON.stringify(action);
    picked.type = action.mode === "datetime" ? "datetime-local" : action.mode;
    picked.min = moment(action.min);
    picked.max = moment(action.max);
    picked.value = moment(action.initial);
    pick.showModal();
  };

  document.addEventListener("submit", async (event) => {
    event.preventDefault();
    const form = event.target;
    const action = form.id === "tap" ? JSON.parse(event.submitter.value) : null;
    if (action?.type === "datetimepicker") return ask(action);
    pick.close();
    const fields = new URLSearchParams(new FormData(form, event.submitter));
    if (form.classList.contains("compose")) form.elements.text.value = "";
    sent.textContent = "";
    try {
      // Not `form.action`: a form's field of that name would hide it.
      const answer = await fetch(form.getAttribute("action"), { method: "POST", body: fields });
      if (!answer.ok) {
        const page = new DOMParser().parseFromString(await answer.text(), "text/html");
        sent.textContent = page.querySelector("main p")?.textContent ?? "That is not possible.";
      }
      await refresh();
      obey(new URL(answer.url).searchParams);
    } catch {
      sent.textContent = "The simulator is away.";
    }
  });

  toEnd();
  follow();
})();
