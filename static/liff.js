// The page that LINE opens as a LIFF app: lets LIFF's SDK begin, shows the person's tokens to our server, once, and goes on
// to where that says. What can go wrong has its words in the page; here it has a name.
"use strict";
(() => {
  const main = document.querySelector("[data-liff]");
  if (!main) return;
  const liffId = main.dataset.liff;
  // Not among LIFF's own names: one login for each page session, so that nothing goes round in circles.
  const LOGGED_IN = "musubi.liff.login";
  const WRONG_CLOCK = 5 * 60 * 1000;
  const PATIENCE = 20 * 1000;
  const isClockWrong = Math.abs(Date.now() - Number(main.dataset.now)) > WRONG_CLOCK;

  const show = (name) => {
    const all = [...main.querySelectorAll("[data-problem]")];
    const wanted = all.find((one) => one.dataset.problem === name) ?? all.find((one) => one.dataset.problem === "failed");
    main.querySelector(".opening").hidden = true;
    for (const one of all) one.hidden = one !== wanted;
    wanted.focus({ preventScroll: true });
  };

  // What LIFF keeps in this browser, of this app.
  const forget = () => {
    for (const store of [localStorage, sessionStorage]) {
      for (const key of Object.keys(store)) if (key.startsWith(`LIFF_STORE:${liffId}:`)) store.removeItem(key);
    }
    document.cookie = `LIFF_STORE:expires:${liffId}=; path=/; Max-Age=0`;
  };

  // A person's own press begins a new page session.
  main.addEventListener("click", (event) => {
    const act = event.target.closest("[data-act]")?.dataset.act;
    if (!act || act === "sign_in") return;
    try {
      sessionStorage.removeItem(LOGGED_IN);
      if (act !== "reload") forget();
    } catch {
      // Nothing is kept in this browser, so nothing is in the way.
    }
  });

  const canKeep = () => {
    try {
      for (const store of [localStorage, sessionStorage]) {
        store.setItem("musubi.liff.try", "1");
        store.removeItem("musubi.liff.try");
      }
      return navigator.cookieEnabled;
    } catch {
      return false;
    }
  };

  // Only outside of LINE; LINE has its own way, and the page's button leads there.
  const login = (problem) => {
    if (window.liff.isInClient() || sessionStorage.getItem(LOGGED_IN)) return show(problem);
    sessionStorage.setItem(LOGGED_IN, "1");
    if (window.liff.isLoggedIn()) window.liff.logout();
    window.liff.login({ redirectUri: location.origin + location.pathname });
  };

  const post = (tokens) =>
    fetch(main.dataset.session, {
      method: "POST",
      credentials: "same-origin",
      cache: "no-store",
      headers: { "content-type": "application/json", "x-musubi-liff": "1" },
      body: JSON.stringify({ ...tokens, path: location.pathname }),
    });

  // The network, or LINE on a bad day.
  const isAway = (code, error) => !navigator.onLine || error instanceof TypeError || /^(429|5\d\d)$/.test(code);

  const begin = async () => {
    const late = setTimeout(() => show("unavailable"), PATIENCE);
    try {
      await window.liff.init({ liffId });
      return true;
    } catch (error) {
      const code = error?.code ?? "";
      if (isClockWrong) show("clock");
      else if (code === "INVALID_ID_TOKEN" || code === "UNAUTHORIZED") show("storage");
      else if (new URLSearchParams(location.search).has("error")) show("outside");
      else show(isAway(code, error) ? "unavailable" : "failed");
      return false;
    } finally {
      clearTimeout(late);
    }
  };

  const enter = async () => {
    const tokens = { id_token: window.liff.getIDToken(), access_token: window.liff.getAccessToken() };
    if (!tokens.id_token && !tokens.access_token) return show("scope");
    const answer = await post(tokens);
    const said = await answer.json();
    if (answer.ok) {
      sessionStorage.removeItem(LOGGED_IN);
      return location.replace(said.next);
    }
    if (said.error === "expired" && isClockWrong) return show("clock");
    if (said.error === "expired" || said.error === "replayed") return login(said.error);
    show(said.error);
  };

  const run = async () => {
    if (!window.liff) return show("sdk");
    if (!canKeep()) return show("storage");
    if (!(await begin())) return;
    if (!window.liff.isLoggedIn()) return login("outside");
    await enter();
  };

  run().catch(() => show("unavailable"));
})();
