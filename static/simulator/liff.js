// LIFF's functions, for pages that run against the simulator: what LINE's SDK does, as far as pages can tell. It asks the
// host that it came from.
"use strict";
(() => {
  const LINE = new URL(document.currentScript.src).origin;
  const AT_LINE = { access: LINE, api: LINE };
  let app = null;
  let context = null;
  let setReady;
  const ready = new Promise((resolve) => { setReady = resolve; });

  class LiffError extends Error {
    constructor(code, message, cause) {
      super(message);
      this.name = "LiffError";
      this.code = code;
      this.cause = cause;
    }
  }

  // In LINE what is kept ends with the tab; elsewhere it stays.
  const key = (name) => `LIFF_STORE:${app}:${name}`;
  const isInClient = () => sessionStorage.getItem(key("IS_IN_CLIENT")) === "1";
  const store = () => (isInClient() ? sessionStorage : localStorage);
  const keep = (name, value) => store().setItem(key(name), value);
  const kept = (name) => store().getItem(key(name));
  const forget = (name) => store().removeItem(key(name));

  const base64 = (bytes) =>
    btoa(String.fromCharCode(...bytes)).replace(/\+/g, "-").replace(/\//g, "_").replace(/=+$/, "");
  const bytesOf = (text) => Uint8Array.from(atob(text.replace(/-/g, "+").replace(/_/g, "/")), (c) => c.charCodeAt(0));
  const jsonOf = (part) => JSON.parse(new TextDecoder().decode(bytesOf(part)));
  const random = (length) => base64(crypto.getRandomValues(new Uint8Array(length)));

  const ask = async (path, options = {}) => {
    const answer = await fetch(AT_LINE.api + path, { cache: "no-store", ...options });
    if (!answer.ok) throw new LiffError(String(answer.status), `${path}: ${answer.status} ${await answer.text()}`);
    return answer.json();
  };
  const bearer = () => ({ headers: { authorization: `Bearer ${getAccessToken()}` } });

  const verify = async (token) => {
    const [header, payload, signature] = token.split(".");
    const { kid } = jsonOf(header);
    const { keys } = await ask("/oauth2/v2.1/certs", bearer());
    const jwk = keys.find((one) => one.kid === kid);
    const invalid = (why) => new LiffError("INVALID_ID_TOKEN", why);
    if (!jwk) throw invalid("no such key");
    const curve = { name: "ECDSA", namedCurve: "P-256" };
    const imported = await crypto.subtle.importKey("jwk", { kty: jwk.kty, crv: jwk.crv, x: jwk.x, y: jwk.y }, curve, false, ["verify"]);
    const signed = new TextEncoder().encode(`${header}.${payload}`);
    const fits = await crypto.subtle.verify({ name: "ECDSA", hash: "SHA-256" }, imported, bytesOf(signature), signed);
    if (!fits) throw invalid("the signature does not fit");
    const claims = jsonOf(payload);
    // By the device's own clock.
    const now = Date.now() / 1000;
    if (claims.exp < now || claims.iat > now + 300) throw invalid("the time does not fit");
    keep("decodedIDToken", JSON.stringify(claims));
  };

  const take = async (tokens, life) => {
    keep("accessToken", tokens.access_token);
    document.cookie = `LIFF_STORE:expires:${app}=${Date.now() + life * 1000}; path=/; SameSite=Lax`;
    if (tokens.id_token) {
      keep("IDToken", tokens.id_token);
      await verify(tokens.id_token);
    }
  };

  // What LINE hands over in the fragment, when it opens the app itself.
  const fromLine = async () => {
    const fragment = new URLSearchParams(location.hash.slice(1));
    if (!fragment.has("access_token") || !fragment.has("feature_token")) return;
    sessionStorage.setItem(key("IS_IN_CLIENT"), "1");
    history.replaceState(history.state, "", location.pathname + location.search);
    keep("context", fragment.get("context_token"));
    await take({ access_token: fragment.get("access_token"), id_token: fragment.get("id_token") }, 12 * 3600);
  };

  // The second half of `login()`.
  const fromLogin = async () => {
    const query = new URLSearchParams(location.search);
    const begun = JSON.parse(localStorage.getItem(key("loginTmp")) ?? "null");
    if (!begun || query.get("state") !== begun.state) return;
    localStorage.removeItem(key("loginTmp"));
    if (query.has("error")) throw new LiffError("INIT_FAILED", `${query.get("error")}: ${query.get("error_description")}`);
    if (!query.has("code")) return;
    const form = {
      grant_type: "authorization_code",
      client_id: query.get("liffClientId"),
      appId: app,
      code: query.get("code"),
      code_verifier: begun.verifier,
      redirect_uri: query.get("liffRedirectUri"),
      id_token_key_type: "JWK",
    };
    const tokens = await ask("/oauth2/v2.1/token", { method: "POST", body: new URLSearchParams(form) });
    await take(tokens, tokens.expires_in);
  };

  // The secondary redirect: the page below the endpoint that the LIFF URL named.
  const onward = () => {
    const query = new URLSearchParams(location.search);
    const more = query.get("liff.state");
    if (!more) return false;
    const endpoint = new URL(context.endpointUrl);
    const wanted = new URL(more.startsWith("/") ? more : `/${more}`, "https://liff.invalid");
    const below = wanted.pathname === "/" && !more.startsWith("/") ? "" : wanted.pathname;
    endpoint.pathname = endpoint.pathname.replace(/\/$/, "") + below;
    for (const [name, value] of wanted.searchParams) endpoint.searchParams.append(name, value);
    endpoint.hash = wanted.hash;
    location.replace(endpoint);
    return true;
  };

  const init = async (config, done, failed) => {
    try {
      if (!config?.liffId) throw new LiffError("INVALID_CONFIG", "liffId is necessary for liff.init()");
      app = config.liffId;
      await fromLine();
      if (!isInClient()) await fromLogin();
      const answer = await ask(`/liff/v2/apps/${encodeURIComponent(app)}/contextToken`, getAccessToken() ? bearer() : {});
      context = jsonOf(answer.contextToken.split(".")[1]);
      if (!location.href.startsWith(context.endpointUrl)) {
        console.warn("liff.init() was called outside of the endpoint URL", context.endpointUrl);
      }
      if (onward()) return await new Promise(() => {});
      setReady();
      done?.();
      if (config.withLoginOnExternalBrowser && !isLoggedIn()) login();
    } catch (error) {
      failed?.(error);
      throw error;
    }
  };

  const expires = () => {
    const cookie = document.cookie.split("; ").find((pair) => pair.startsWith(`LIFF_STORE:expires:${app}=`));
    return Number(cookie?.split("=")[1] ?? 0);
  };
  const isLoggedIn = () => Boolean(kept("accessToken")) && (isInClient() || expires() > Date.now());
  const getAccessToken = () => (isLoggedIn() ? kept("accessToken") : null);
  const getIDToken = () => (isLoggedIn() ? kept("IDToken") : null);
  const getDecodedIDToken = () => (isLoggedIn() ? JSON.parse(kept("decodedIDToken") ?? "null") : null);

  const login = async ({ redirectUri } = {}) => {
    if (isInClient()) throw new LiffError("FORBIDDEN", "liff.login() is not allowed in LINE");
    const begun = { state: random(9), verifier: random(48) };
    const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(begun.verifier));
    localStorage.setItem(key("loginTmp"), JSON.stringify(begun));
    location.href = `${AT_LINE.access}/liff/v1/authorize?${new URLSearchParams({
      app_id: app,
      state: begun.state,
      response_type: "code",
      code_challenge_method: "S256",
      code_challenge: base64(new Uint8Array(digest)),
      liff_sdk_version: "simulator",
      redirect_uri: redirectUri ?? context.endpointUrl,
    })}`;
  };

  const logout = () => {
    for (const name of ["accessToken", "IDToken", "decodedIDToken", "context"]) forget(name);
    document.cookie = `LIFF_STORE:expires:${app}=; path=/; Max-Age=0`;
  };

  const loggedIn = () => {
    if (!isLoggedIn()) throw new LiffError("UNAUTHORIZED", "Need access_token for api call, Please login first");
  };
  const getProfile = async () => { loggedIn(); return ask("/v2/profile", bearer()); };
  const getFriendship = async () => { loggedIn(); return ask("/friendship/v1/status", bearer()); };

  window.liff = Object.freeze({
    get id() { return app; },
    ready,
    init,
    isInClient: () => app !== null && isInClient(),
    isLoggedIn,
    login,
    logout,
    getIDToken,
    getDecodedIDToken,
    getAccessToken,
    getProfile,
    getFriendship,
    getContext: () => context,
    getOS: () => (/android/i.test(navigator.userAgent) ? "android" : /iphone|ipad/i.test(navigator.userAgent) ? "ios" : "web"),
    getVersion: () => "2.simulator",
    getLanguage: () => navigator.language,
    getAppLanguage: () => navigator.language,
    openWindow: ({ url, external }) => { if (external) window.open(url, "_blank", "noopener"); else location.href = url; },
    closeWindow: () => window.close(),
  });
})();
