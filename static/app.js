// Two comforts on top of pages that work without script: seeing the password one types,
// and not sending a form twice by a double click.
"use strict";

for (const box of document.querySelectorAll("[data-password]")) {
  const input = box.querySelector("input");
  const button = document.createElement("button");
  button.type = "button";
  button.className = "password-toggle";
  button.setAttribute("aria-controls", input.id);
  const show = (visible) => {
    input.type = visible ? "text" : "password";
    button.textContent = visible ? box.dataset.hide : box.dataset.show;
  };
  button.addEventListener("click", () => show(input.type === "password"));
  // Password managers and browsers keep what is in a password field to themselves, a text field's they may remember.
  if (input.form) input.form.addEventListener("submit", () => show(false));
  show(false);
  box.append(button);
}

// The button stays enabled: a disabled one would not send its own name and value.
for (const form of document.querySelectorAll("form[data-once]")) {
  form.addEventListener("submit", (event) => {
    if (form.getAttribute("aria-busy") === "true") return event.preventDefault();
    form.setAttribute("aria-busy", "true");
    // Where the answer never comes, the person can try again.
    setTimeout(() => form.removeAttribute("aria-busy"), 8000);
  });
}

// A page that comes back from the browser's cache is ready to be sent again.
window.addEventListener("pageshow", () => {
  for (const form of document.querySelectorAll("form[aria-busy]")) form.removeAttribute("aria-busy");
});
