// What a page gains with script: local times, a page that keeps itself up to date, and the phone's menu.
// Everything works without it.
"use strict";

(() => {
  const language = document.documentElement.lang || undefined;
  document.documentElement.classList.add("scripted");

  const exact = new Intl.DateTimeFormat(language, { dateStyle: "full", timeStyle: "long" });
  const moment = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
  const clock = new Intl.DateTimeFormat(language, { timeStyle: "medium" });
  const dayAndClock = new Intl.DateTimeFormat(language, {
    day: "numeric", month: "short", hour: "2-digit", minute: "2-digit",
  });
  const day = new Intl.DateTimeFormat(language, { day: "numeric", month: "short" });
  const relative = new Intl.RelativeTimeFormat(language, { numeric: "auto" });
  const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

  function ago(date) {
    const seconds = (date - Date.now()) / 1000;
    if (Math.abs(seconds) > 30 * 86400) return moment.format(date);
    for (const [unit, size] of UNITS) {
      if (Math.abs(seconds) >= size || unit === "second") return relative.format(Math.round(seconds / size), unit);
    }
    return "";
  }

  function shown(date, style) {
    const today = date.toDateString() === new Date().toDateString();
    if (style === "ago") return ago(date);
    if (style === "clock") return today ? clock.format(date) : dayAndClock.format(date);
    if (style === "axis") return Date.now() - date < 36 * 3600 * 1000 ? dayAndClock.format(date) : day.format(date);
    return moment.format(date);
  }

  function localTimes(root) {
    for (const element of root.querySelectorAll("time[data-show]")) {
      const date = new Date(element.dateTime);
      if (Number.isNaN(date.getTime())) continue;
      element.textContent = shown(date, element.dataset.show);
      element.title = exact.format(date);
    }
  }

  // A page with data-refresh asks for itself and puts in what changed, region by region. A region in which
  // somebody is typing, or has selected text, is left alone; the focus stays where it was.
  const main = document.getElementById("main");
  const served = new Map();

  function remember(root) {
    for (const region of root.querySelectorAll("[data-live]")) served.set(region.id, region.innerHTML);
  }

  function busy(region) {
    const active = document.activeElement;
    if (region.contains(active) && active.matches("input, select, textarea")) return true;
    const selection = document.getSelection();
    return Boolean(selection && !selection.isCollapsed && region.contains(selection.anchorNode));
  }

  function focusKey(region) {
    const active = document.activeElement;
    if (!active || !region.contains(active)) return null;
    if (active.id) return `#${CSS.escape(active.id)}`;
    if (active.dataset.testid) return `[data-testid="${CSS.escape(active.dataset.testid)}"]`;
    if (active.getAttribute("href")) return `a[href="${CSS.escape(active.getAttribute("href"))}"]`;
    return active.classList.contains("scroll") ? ".scroll" : null;
  }

  function put(region, html) {
    const key = focusKey(region);
    const opened = [...region.querySelectorAll("details")].map((element) => element.open);
    const scrolled = [...region.querySelectorAll(".scroll")].map((element) => element.scrollLeft);
    region.innerHTML = html;
    [...region.querySelectorAll("details")].forEach((element, at) => { element.open = Boolean(opened[at]); });
    [...region.querySelectorAll(".scroll")].forEach((element, at) => { element.scrollLeft = scrolled[at] || 0; });
    localTimes(region);
    if (key) region.querySelector(key)?.focus({ preventScroll: true });
  }

  async function refresh() {
    const answer = await fetch(window.location.href, { credentials: "same-origin", headers: { Accept: "text/html" } });
    if (answer.redirected || answer.status === 404) { window.location.reload(); return false; }
    if (!answer.ok) return true;
    const page = new DOMParser().parseFromString(await answer.text(), "text/html");
    for (const fresh of page.querySelectorAll("[data-live]")) {
      const region = document.getElementById(fresh.id);
      if (!region || served.get(fresh.id) === fresh.innerHTML || busy(region)) continue;
      served.set(fresh.id, fresh.innerHTML);
      put(region, fresh.innerHTML);
    }
    return true;
  }

  function keepFresh(every) {
    const again = () => window.setTimeout(async () => {
      let going = true;
      if (!document.hidden) {
        // Offline or restarting: the page stays as it is and asks again.
        try { going = await refresh(); } catch { going = true; }
        localTimes(document);
      }
      if (going) again();
    }, every);
    again();
  }

  document.querySelector(".menu-button")?.addEventListener("click", (event) => {
    const open = document.getElementById("menu").classList.toggle("shown");
    event.currentTarget.setAttribute("aria-expanded", String(open));
  });

  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape") document.querySelector("[data-close]")?.click();
    if (!["ArrowDown", "ArrowUp"].includes(event.key) || !document.activeElement?.matches(".row-link")) return;
    const links = [...document.querySelectorAll(".row-link")];
    const next = links[links.indexOf(document.activeElement) + (event.key === "ArrowDown" ? 1 : -1)];
    if (next) { event.preventDefault(); next.focus(); }
  });

  // A form is sent once, however often its button is pressed.
  document.addEventListener("submit", (event) => {
    const form = event.target;
    if (form.method !== "post") return;
    if (form.dataset.sent) { event.preventDefault(); return; }
    form.dataset.sent = "yes";
    for (const button of form.querySelectorAll("button")) button.setAttribute("aria-busy", "true");
  });
  window.addEventListener("pageshow", () => {
    for (const form of document.querySelectorAll("form[data-sent]")) delete form.dataset.sent;
  });

  if (main) remember(main);
  localTimes(document);
  if (main?.dataset.refresh) keepFresh(Number(main.dataset.refresh));
})();
