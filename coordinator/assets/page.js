// What a page does beyond being read: it stays true, times go on, commands are copied, keys lead around.
// Nothing here is needed to read a finished build.
"use strict";

(() => {
  const body = document.body;
  const one = (selector, under = document) => under.querySelector(selector);
  const all = (selector, under = document) => [...under.querySelectorAll(selector)];

  // Times. The server says each once; from then on they are counted here.

  const span = (ms) => {
    const s = Math.max(0, Math.floor(ms / 1000));
    const [d, h, min] = [Math.floor(s / 86400), Math.floor(s / 3600) % 24, Math.floor(s / 60) % 60];
    if (d) return `${d} d ${h} h`;
    if (h) return `${h} h ${min} min`;
    if (min >= 10 || (min && s % 60 === 0)) return `${min} min`;
    return min ? `${min} min ${s % 60} s` : `${s} s`;
  };
  const ago = (ms) => {
    const s = Math.floor(ms / 1000);
    if (s < 5) return "just now";
    if (s < 60) return `${s} s ago`;
    if (s < 3600) return `${Math.floor(s / 60)} min ago`;
    return s < 86400 ? `${Math.floor(s / 3600)} h ago` : `${Math.floor(s / 86400)} d ago`;
  };
  const tick = () => {
    if (document.hidden) return;
    const now = Date.now();
    const say = (time, text) => { if (time.textContent !== text) time.textContent = text; };
    for (const time of all("time[data-since]")) say(time, span(now - time.dataset.since));
    for (const time of all("time[data-at]")) say(time, ago(now - time.dataset.at));
  };
  setInterval(tick, 1000);

  // Commands to copy.

  const dress = (under) => {
    for (const hidden of all("button.copy, [data-open]", under)) hidden.hidden = false;
  };
  const copy = async (button) => {
    try {
      await navigator.clipboard.writeText(button.dataset.copy);
    } catch {
      // Without https there is no clipboard; the command is marked, so that one key copies it.
      getSelection().selectAllChildren(button.previousElementSibling);
      return;
    }
    button.textContent = "copied";
    setTimeout(() => { button.textContent = "copy"; }, 1500);
  };
  document.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.matches(".copy")) copy(button);
    if (button.dataset.open) document.getElementById(button.dataset.open).showModal();
  });
  document.addEventListener("submit", (event) => {
    const { ask } = event.target.dataset;
    if (ask && !confirm(ask)) event.preventDefault();
  });

  // Parts that changed. What a person opened, typed into or scrolled to stays so; what has `data-keep` stays the
  // very element that it was.

  // A part as the server made it: without what is counted, dressed or kept here.
  const plain = (part) => {
    const copy = part.cloneNode(true);
    for (const time of all("time[data-at], time[data-since]", copy)) time.textContent = "";
    for (const hidden of all("button.copy, [data-open]", copy)) hidden.hidden = true;
    for (const kept of all("[data-keep][id]", copy)) kept.replaceChildren();
    const box = document.createElement("div");
    box.append(...copy.childNodes);
    return box.innerHTML;
  };

  // Of a field: whether a person changed it, and which one it is, as it is after the swap too.
  const isFilled = (field) => field.type === "hidden" ? false
    : field.type === "checkbox" ? field.checked !== field.defaultChecked
    : field.matches("select") ? [...field.options].some((one) => one.selected !== one.defaultSelected)
    : field.value !== field.defaultValue;
  const called = (field) => [field.form?.getAttribute("action"), field.name, field.type === "checkbox" && field.value].join(" ");
  // Of what has the focus: which one it is, as it is after the swap too.
  const focusable = "a, button, input, select, textarea, summary, [tabindex]";
  const known = (it) => [it.closest("[id]")?.id, it.tagName, it.getAttribute("href"), it.form?.getAttribute("action"), it.name,
    it.matches("button, [type=checkbox]") && it.value, it.dataset.copy, it.dataset.open].join(" ");

  // A part that cannot be put in its place yet: only the newest of each, so that none takes the place of a newer one.
  const held = new Map();
  const hold = (id, html, on, ...events) => {
    const waits = held.has(id);
    held.set(id, html);
    // A listener for each that came would keep them all.
    if (waits) return;
    const go = () => {
      for (const event of events) on.removeEventListener(event, go);
      // Not before the focus is where it goes: a key leads from field to field, and the next must still be there.
      setTimeout(() => {
        if (!held.has(id)) return;
        const newest = held.get(id);
        held.delete(id);
        swap(id, newest);
      });
    };
    for (const event of events) on.addEventListener(event, go);
  };

  const swap = (id, html) => {
    const old = document.getElementById(id);
    // It has no place for this part: by now it is another page.
    if (!old || old.closest("[hidden]")) return location.reload();
    const typing = old.contains(document.activeElement) && document.activeElement.matches("input, select, textarea");
    if (typing) return hold(id, html, document.activeElement, "blur");
    // What is pressed at this moment must still be there when it is let go, or taken to be dragged or scrolled.
    if (one(":active", old)) return hold(id, html, window, "pointerup", "pointercancel", "dragend");
    held.delete(id);
    const fresh = document.createElement("template");
    fresh.innerHTML = html;
    if (plain(old) === plain(fresh.content)) return;
    // What is taken out of the page forgets where it was scrolled to, also when it comes back.
    const places = all("[data-keep] .log-view", old).map((view) => [view, view.scrollTop, view.scrollLeft]);
    for (const placeholder of all("[data-keep][id]", fresh.content)) {
      const kept = document.getElementById(placeholder.id);
      if (kept && old.contains(kept)) placeholder.replaceWith(kept);
    }
    // A log that somebody reads stays in its viewer, also when it would be a quiet one by now.
    for (const kept of all("[data-keep][id]", old)) {
      const place = kept.closest("details")?.id;
      const instead = place && one(`#${CSS.escape(place)} > .log-body`, fresh.content);
      if (instead && kept.closest("details").open) instead.replaceWith(kept);
    }
    for (const details of all("details[id]", fresh.content)) {
      const before = document.getElementById(details.id);
      if (before && before.dataset.touched) {
        details.open = before.open;
        details.dataset.touched = "yes";
      }
    }
    const scrolled = all("pre.output", old).map((pre) => {
      const rest = pre.scrollHeight - pre.scrollTop - pre.clientHeight;
      return [pre.closest("[id]").id, rest < 40 ? Infinity : pre.scrollTop];
    });
    const filled = all("input, select, textarea", old).filter(isFilled).map((field) => [called(field), field]);
    const focused = old.contains(document.activeElement) && document.activeElement;
    const whose = focused && [known(focused), focused.closest("[id]").id];
    old.replaceChildren(fresh.content);
    for (const field of all("input, select, textarea", old)) {
      const before = filled.find(([name]) => name === called(field))?.[1];
      if (before) [field.value, field.checked] = [before.value, before.checked];
    }
    for (const [view, top, left] of places) {
      if (view.isConnected) [view.scrollTop, view.scrollLeft] = [top, left];
    }
    for (const [place, top] of scrolled) {
      const pre = one("pre.output", document.getElementById(place) ?? fresh);
      if (pre) pre.scrollTop = top;
    }
    dress(old);
    if (focused && document.activeElement !== focused) {
      const again = old.contains(focused) ? focused : all(focusable, old).find((it) => known(it) === whose[0]);
      (again ?? document.getElementById(whose[1]))?.focus({ preventScroll: true });
    }
    tick();
    old.dispatchEvent(new CustomEvent("buildr:part", { bubbles: true }));
  };
  document.addEventListener("click", (event) => {
    const details = event.target.closest("summary")?.parentElement;
    if (details) details.dataset.touched = "yes";
  });

  // The line. A browser comes again by itself after most breaks; after the others it is done here. A page that
  // nobody sees gives its line back, since a browser has few of them.

  // How long a line is believed in of which nothing is heard, in milliseconds: a sign of life comes more often.
  const SILENCE = 30_000;
  const state = one(".line-state");
  let line = null;
  let heard = 0;
  let over = !body.dataset.live;
  let again = 0;
  const connect = () => {
    clearTimeout(again);
    if (over || line) return;
    line = new EventSource(body.dataset.live);
    heard = Date.now();
    for (const any of ["hello", "part", "alive"]) line.addEventListener(any, () => { heard = Date.now(); });
    line.addEventListener("hello", (event) => {
      state.hidden = true;
      if (JSON.parse(event.data).version !== body.dataset.version) location.reload();
    });
    line.addEventListener("part", (event) => {
      const { id, html } = JSON.parse(event.data);
      swap(id, html);
    });
    line.addEventListener("over", () => {
      over = true;
      disconnect();
    });
    line.addEventListener("error", () => {
      state.hidden = false;
      if (line && line.readyState === EventSource.CLOSED) {
        disconnect();
        again = setTimeout(connect, 3000);
      }
    });
  };
  const disconnect = () => {
    line?.close();
    line = null;
  };
  // A machine that is frozen, or a network that swallows everything, says nothing of it.
  setInterval(() => {
    if (!line || Date.now() - heard < SILENCE) return;
    state.hidden = false;
    disconnect();
    connect();
  }, SILENCE / 4);
  document.addEventListener("visibilitychange", () => {
    if (document.hidden) disconnect();
    else {
      tick();
      connect();
    }
  });
  addEventListener("pagehide", disconnect);
  addEventListener("pageshow", connect);

  // Keys.

  const step = (selector, by) => {
    const places = all(selector);
    if (!places.length) return;
    const here = places.indexOf(one(".is-here") ?? document.activeElement);
    const next = places[(here + by + places.length) % places.length] ?? places[0];
    for (const place of all(".is-here")) place.classList.remove("is-here");
    next.classList.add("is-here");
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
    return next;
  };
  const show = (hash) => {
    const target = hash && document.getElementById(decodeURIComponent(hash.slice(1)));
    const details = target?.closest("details");
    if (details) {
      details.open = true;
      details.dataset.touched = "yes";
    }
    target?.scrollIntoView({ block: "start" });
  };
  const stage = (by) => {
    const link = step("a[data-stage]", by);
    if (link) show(link.getAttribute("href"));
  };
  const keys = {
    f: () => step("[data-failure]", 1)?.scrollIntoView({ block: "start" }),
    j: () => stage(1),
    k: () => stage(-1),
    s: () => (one("[data-search]") ?? one(".filter input"))?.focus(),
    r: () => one("[data-restart]")?.click(),
    h: () => location.assign("/"),
    q: () => location.assign("/queue"),
    a: () => location.assign("/agents"),
    p: () => location.assign("/projects"),
    d: () => location.assign("/deliveries"),
    "?": () => one("#keys").showModal(),
  };
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented) return;
    if (event.target.matches("input, select, textarea") || one("dialog[open]")) return;
    const act = keys[event.key];
    if (!act) return;
    event.preventDefault();
    act();
  });
  addEventListener("hashchange", () => show(location.hash));

  dress(document);
  for (const pre of all("pre.output")) pre.scrollTop = pre.scrollHeight;
  show(location.hash);
  connect();
})();
