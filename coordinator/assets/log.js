// One log in a window that scrolls: of millions of lines only those in sight are in the page. What is in sight is asked
// for in blocks; what is new comes as events. Nothing here makes markup of a log's text: the server did that.
"use strict";

(() => {
  /** How many lines are asked for at once, and how many such blocks are kept. */
  const BLOCK = 500;
  const BLOCKS = 60;
  /** How many rows stand above and below those in sight. */
  const MORE = 30;
  /** The tallest a page may be, in pixels: browsers have a limit, and a long log has more lines than that. */
  const TALLEST = 4_000_000;
  /** For how long nothing may be heard of a log that grows, in milliseconds: the server says something every 5 s. */
  const SILENCE = 20_000;
  /** How many hits are gathered at once, and how many lines are copied at most. */
  const HITS = 1000;
  const COPIED = 20_000;

  const clock = (ms) => {
    const s = Math.floor(ms / 1000);
    const two = (n) => String(n).padStart(2, "0");
    if (s < 60) return `${s}.${Math.floor((ms % 1000) / 100)}`;
    if (s < 3600) return `${Math.floor(s / 60)}:${two(s % 60)}`;
    return `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
  };
  const grouped = (n) => String(n).replace(/\B(?=(\d{3})+$)/g, "\u202f");
  const element = (name, className, text) => {
    const made = document.createElement(name);
    made.className = className;
    if (text !== undefined) made.textContent = text;
    return made;
  };

  class LogView {
    constructor(root) {
      this.root = root;
      this.view = root.querySelector(".log-view");
      this.space = root.querySelector(".log-space");
      this.window = root.querySelector(".log-window");
      this.standing = root.querySelector(".log-standing");
      this.search = root.querySelector(".log-search");
      this.found = this.search.querySelector("output");
      const { lines, live, page, query, first, total, settled, gap, commands } = root.dataset;
      this.api = lines;
      this.liveUrl = live;
      this.page = page;
      this.query = query;
      this.own = "own" in root.dataset;
      this.total = Number(total);
      this.settled = settled === "true";
      this.gap = gap || null;
      this.next = 1; // the first line that was not heard of, or was not over
      this.blocks = new Map(); // block -> lines by their place in it
      this.asked = new Set();
      this.commands = [];
      this.folded = new Set();
      this.parts = []; // stretches of visible lines: {row, line, count}
      this.rows = 0;
      this.anchor = { row: 0, px: 0 }; // what stands at the top
      this.lastTop = 0;
      this.drawn = "";
      this.version = 0;
      this.chosen = null;
      this.hits = [];
      this.hit = -1;
      this.sought = 0;
      this.heardOf = 0; // how often the stream told where the log stands
      this.following = false;
      this.take(Number(first));
      this.begin(Number(commands));
    }

    /** What the server wrote into the page is known already. */
    take() {
      for (const row of this.window.querySelectorAll(".row")) {
        const ms = row.querySelector(".ms").textContent;
        const text = row.querySelector(".text").innerHTML;
        const left = row.querySelector(".left-out");
        // Its time is told again with the block; what is shown until then is enough.
        if (!left) this.put({ n: Number(row.dataset.n), text, clock: ms });
        this.next = Number(row.dataset.n);
      }
      this.next = Math.max(1, this.next);
    }

    begin(commands) {
      const { root } = this;
      root.classList.add("scripted");
      root.querySelector(".log-steps")?.remove();
      root.querySelectorAll("[hidden]").forEach((part) => { part.hidden = false; });
      const row = element("div", "row", "x");
      this.window.replaceChildren(row);
      this.height = row.getBoundingClientRect().height || 20;
      this.typical = this.height;
      this.layOut();
      this.view.addEventListener("scroll", () => this.scrolled(), { passive: true });
      new ResizeObserver(() => { this.version++; this.following ? this.toEnd() : this.sync(); }).observe(this.view);
      root.addEventListener("click", (event) => this.clicked(event));
      root.addEventListener("keydown", (event) => this.key(event));
      this.search.addEventListener("submit", (event) => { event.preventDefault(); this.seek(1); });
      this.search.addEventListener("input", () => this.forgetHits());
      this.remember("timed", "times");
      this.remember("wrapped", "wrap");
      if (this.own) window.addEventListener("hashchange", () => this.goToHash());
      if (commands > 0) this.askCommands(commands);
      if (!(this.own && this.goToHash())) this.follow(!this.settled) || this.toEnd();
      if (!this.settled) this.live();
      this.state();
    }

    // Lines that are known.

    put(line) {
      const number = Math.floor((line.n - 1) / BLOCK);
      let block = this.blocks.get(number);
      if (!block) {
        block = [];
        this.blocks.set(number, block);
        if (this.blocks.size > BLOCKS) this.forget(number);
      }
      block[(line.n - 1) % BLOCK] = line;
    }

    line(n) {
      return this.blocks.get(Math.floor((n - 1) / BLOCK))?.[(n - 1) % BLOCK];
    }

    /** The block farthest from what is in sight goes. */
    forget(but) {
      const here = Math.floor(this.lineOf(this.anchor.row) / BLOCK);
      let worst = -1;
      for (const number of this.blocks.keys()) {
        if (number !== but && (worst < 0 || Math.abs(number - here) > Math.abs(worst - here))) worst = number;
      }
      this.blocks.delete(worst);
    }

    /** Asks for the block of a line, from that line on. */
    async ask(n) {
      const number = Math.floor((n - 1) / BLOCK);
      if (this.asked.has(number)) return;
      this.asked.add(number);
      const count = (number + 1) * BLOCK - n + 1;
      const before = this.heardOf;
      try {
        const answer = await fetch(`${this.api}/lines?${this.query}&from=${n}&count=${count}`);
        if (!answer.ok) throw new Error(String(answer.status));
        const { lines, log } = await answer.json();
        // An answer may come later than news that are newer than it.
        const isNew = before === this.heardOf;
        for (const line of lines) if (isNew || !line.open) this.put(line);
        if (isNew) this.learn(log);
        this.unreached = false;
      } catch {
        this.unreached = true;
        await new Promise((done) => setTimeout(done, 1000));
      }
      this.asked.delete(number);
      this.state();
      this.changed();
    }

    learn(log) {
      const grown = log.total !== this.total;
      this.total = log.total;
      this.gap = log.gap ?? null;
      if (log.commands !== this.commands.length) this.askCommands(log.commands);
      if (grown) this.layOut();
    }

    // Commands and folds.

    async askCommands(count) {
      if (this.asking === count) return;
      this.asking = count;
      const answer = await fetch(`${this.api}/commands?${this.query}`).catch(() => null);
      if (!answer?.ok) { this.asking = -1; return; }
      this.commands = (await answer.json()).commands;
      this.byLine = new Map(this.commands.map((command, place) => [command.line, place]));
      if (this.allFolded) this.commands.forEach((command) => this.folded.add(command.line));
      this.layOut();
      this.changed();
    }

    /** The last line of a command's output. */
    endOf(place) {
      return place + 1 < this.commands.length ? this.commands[place + 1].line - 1 : this.total;
    }

    fold(line, is) {
      const top = this.lineOf(this.anchor.row);
      is ? this.folded.add(line) : this.folded.delete(line);
      this.layOut();
      this.anchor.row = this.rowOf(top);
      this.sync();
    }

    foldAll(is) {
      const top = this.lineOf(this.anchor.row);
      this.allFolded = is;
      this.folded = new Set(is ? this.commands.map((command) => command.line) : []);
      this.press("fold", is);
      this.layOut();
      this.anchor = { row: this.rowOf(top), px: 0 };
      this.sync();
    }

    /** Which lines can be seen: stretches between those that are folded away. */
    layOut() {
      this.parts = [];
      let [row, line] = [0, 1];
      const add = (end) => {
        if (end < line) return;
        this.parts.push({ row, line, count: end - line + 1 });
        row += end - line + 1;
      };
      for (const [place, command] of this.commands.entries()) {
        if (!this.folded.has(command.line)) continue;
        add(command.line);
        line = this.endOf(place) + 1;
      }
      add(this.total);
      this.rows = this.parts.length ? row + 0 : 0;
      this.version++;
      const tall = this.rows * this.typical;
      this.exact = !this.wrapped && tall <= TALLEST;
      this.space.style.height = `${Math.max(Math.min(tall, TALLEST), 1)}px`;
      this.root.classList.toggle("short", !this.own && tall < 600 && !this.wrapped);
      if (this.root.classList.contains("short")) this.view.style.height = `${tall + 18}px`;
      else this.view.style.height = "";
    }

    part(is) {
      let [low, high] = [0, this.parts.length];
      while (low < high) {
        const middle = (low + high) >> 1;
        if (is(this.parts[middle])) low = middle + 1; else high = middle;
      }
      return this.parts[Math.max(low - 1, 0)];
    }

    lineOf(row) {
      const part = this.part((part) => part.row <= row);
      return part ? Math.min(part.line + row - part.row, part.line + part.count - 1) : 1;
    }

    /** The row of a line, or of the command that it is folded into. */
    rowOf(line) {
      const part = this.part((part) => part.line <= line);
      return part ? part.row + Math.max(0, Math.min(line - part.line, part.count - 1)) : 0;
    }

    // Scrolling. Where the reader is, is told by the row at the top, and how far it is scrolled out of sight. While all
    // rows fit into the space, the scroll bar says the same; else it says where about in the log one is.

    get inSight() { return this.view.clientHeight / this.typical; }
    get farthest() { return Math.max(0, this.view.scrollHeight - this.view.clientHeight); }

    scrolled() {
      const top = this.view.scrollTop;
      const by = top - this.lastTop;
      if (by === 0) return this.draw();
      this.lastTop = top;
      if (this.exact) {
        this.anchor = { row: Math.floor(top / this.height), px: top % this.height };
      } else if (Math.abs(by) < 2 * this.view.clientHeight) {
        this.move(by);
        clearTimeout(this.settling);
        this.settling = setTimeout(() => this.sync(), 150);
      } else {
        const part = this.farthest ? top / this.farthest : 0;
        this.anchor = { row: Math.round(part * Math.max(0, this.rows - this.inSight)), px: 0 };
      }
      if (by < 0) this.follow(false);
      this.draw();
      if (by > 0 && !this.settled && this.atEnd()) this.follow(true);
    }

    /** So many pixels down, row by row. */
    move(by) {
      const at = this.anchor;
      at.px += by;
      while (at.px < 0 && at.row > 0) at.px += this.heightOf(--at.row);
      while (at.row < this.rows - 1 && at.px >= this.heightOf(at.row)) at.px -= this.heightOf(at.row++);
      if (at.row === 0) at.px = Math.max(0, at.px);
      at.px = Math.min(at.px, this.heightOf(at.row));
    }

    heightOf(row) {
      if (!this.wrapped) return this.height;
      const shown = this.window.children[row - this.from];
      return shown && row >= this.from ? shown.offsetHeight : this.typical;
    }

    /** Puts the scroll bar where the reader is. */
    sync() {
      const last = Math.max(1, this.rows - this.inSight);
      const { row, px } = this.anchor;
      const top = this.exact ? row * this.height + px : Math.min(1, row / last) * this.farthest;
      this.view.scrollTop = top;
      this.lastTop = this.view.scrollTop;
      if (this.exact) this.anchor = { row: Math.floor(this.lastTop / this.height), px: this.lastTop % this.height };
      this.draw();
    }

    toEnd() {
      this.anchor = { row: Math.max(0, this.rows - 1), px: 0 };
      this.view.scrollTop = this.farthest;
      this.lastTop = this.view.scrollTop;
      if (this.exact) this.anchor = { row: Math.floor(this.lastTop / this.height), px: this.lastTop % this.height };
      this.draw();
    }

    atEnd() {
      const last = this.window.lastElementChild;
      if (!last || this.until < this.rows) return false;
      return last.getBoundingClientRect().bottom <= this.view.getBoundingClientRect().bottom + 2;
    }

    /** Shows a line, a third from the top. */
    goTo(line) {
      for (const [place, command] of this.commands.entries()) {
        if (this.folded.has(command.line) && line > command.line && line <= this.endOf(place)) {
          this.folded.delete(command.line);
          this.layOut();
        }
      }
      this.follow(false);
      const row = this.rowOf(Math.min(Math.max(line, 1), Math.max(1, this.total)));
      this.anchor = { row: Math.max(0, row - Math.floor(this.inSight / 3)), px: 0 };
      this.version++;
      this.sync();
    }

    // Drawing.

    changed() {
      this.version++;
      if (this.following) this.toEnd(); else this.draw();
    }

    draw() {
      const from = Math.max(0, this.anchor.row - MORE);
      const until = Math.min(this.rows, this.anchor.row + Math.ceil(this.view.clientHeight / this.height) + MORE);
      const drawn = `${from}-${until}-${this.version}`;
      if (drawn !== this.drawn) {
        this.drawn = drawn;
        this.from = from;
        this.until = until;
        const focus = this.focused();
        const rows = [];
        for (let row = from; row < until; row++) rows.push(this.row(this.lineOf(row)));
        this.window.replaceChildren(...rows);
        this.refocus(focus);
        if (this.wrapped && rows.length) this.typical = Math.max(this.height, this.window.offsetHeight / rows.length);
        this.highlight();
      }
      this.place();
    }

    /** Puts the rows where the reader looks; the last of them never above the lower edge while there are others. */
    place() {
      const rows = this.window.children;
      if (!rows.length) return;
      if (this.exact) {
        this.window.style.transform = `translateY(${this.from * this.height}px)`;
        return;
      }
      const before = rows[Math.min(this.anchor.row - this.from, rows.length - 1)]?.offsetTop ?? 0;
      const top = this.view.scrollTop;
      let y = top - this.anchor.px - before;
      if (this.until >= this.rows) {
        const lowest = top + this.view.clientHeight - this.window.offsetHeight;
        if (y < lowest) {
          const by = y - lowest;
          y = Math.min(lowest, this.from === 0 ? Math.max(top, lowest) : lowest);
          this.move(by);
        }
      }
      this.window.style.transform = `translateY(${y}px)`;
    }

    row(n) {
      const line = this.line(n);
      const row = element("div", "row");
      row.dataset.n = n;
      const number = element("a", "no", n);
      number.href = this.own ? `#L${n}` : `${this.page}?${this.query}#L${n}`;
      row.append(number, element("span", "ms", line?.ms === undefined ? line?.clock ?? "" : clock(line.ms)));
      const place = this.byLine?.get(n);
      if (place !== undefined) row.append(this.foldOf(row, n, place));
      const text = element("span", "text");
      if (line) text.innerHTML = line.text;
      else { text.textContent = "…"; row.classList.add("waits"); this.ask(n); }
      row.append(text);
      if (line?.left_out) {
        const left = element("a", "left-out", `… ${grouped(line.left_out)} bytes of this line are left out: raw`);
        left.href = `${this.api}/raw?${this.query}`;
        row.append(left);
      }
      if (line?.open) row.classList.add("open");
      if (this.chosen && n >= this.chosen[0] && n <= this.chosen[1]) row.classList.add("chosen");
      if (this.hitLines?.has(n)) row.classList.add("found");
      if (this.hits[this.hit]?.line === n) row.classList.add("now");
      return row;
    }

    foldOf(row, n, place) {
      const is = this.folded.has(n);
      const button = element("button", "fold", is ? "▸" : "▾");
      button.type = "button";
      button.dataset.fold = n;
      button.setAttribute("aria-expanded", String(!is));
      button.setAttribute("aria-label", `Output of ${this.commands[place].text}`);
      row.classList.add("command");
      if (is) {
        row.classList.add("folded");
        row.dataset.folded = `${grouped(this.endOf(place) - n)} lines`;
        queueMicrotask(() => { const text = row.querySelector(".text"); if (text) text.dataset.folded = row.dataset.folded; });
      }
      return button;
    }

    focused() {
      const at = document.activeElement;
      if (!this.window.contains(at)) return null;
      return [at.closest(".row")?.dataset.n, at.className];
    }

    refocus(focus) {
      if (!focus) return;
      const again = this.window.querySelector(`[data-n="${focus[0]}"] .${focus[1].split(" ")[0]}`);
      (again ?? this.view).focus({ preventScroll: true });
    }

    highlight() {
      if (!CSS.highlights || !this.hitLines?.size) return;
      const ranges = [];
      for (const row of this.window.children) {
        const found = this.hitLines.get(Number(row.dataset.n));
        if (found) ranges.push(...this.ranges(row.querySelector(".text"), found));
      }
      CSS.highlights.set("log-found", new Highlight(...ranges));
    }

    /** Where in a row a text stands, across its spans. */
    ranges(text, found) {
      const start = found ? text.textContent.indexOf(found) : -1;
      if (start < 0) return [];
      const range = document.createRange();
      const walk = document.createTreeWalker(text, NodeFilter.SHOW_TEXT);
      let [at, begun] = [0, false];
      for (let node = walk.nextNode(); node; node = walk.nextNode()) {
        const end = at + node.length;
        if (!begun && start < end) { range.setStart(node, start - at); begun = true; }
        if (begun && start + found.length <= end) { range.setEnd(node, start + found.length - at); return [range]; }
        at = end;
      }
      return [];
    }

    state(said) {
      const count = `${grouped(this.total)} ${this.total === 1 ? "line" : "lines"}`;
      const where = this.settled ? count : `${count} so far`;
      this.standing.textContent =
        said ?? (this.unreached ? `${where} · the coordinator cannot be reached; trying again` : this.gap ?? where);
      this.root.querySelector(".log-empty")?.toggleAttribute("hidden", this.total > 0);
      this.root.dataset.state = this.settled ? "settled" : this.unreached ? "away" : "live";
    }

    // What is new.

    live() {
      this.stream?.close();
      this.heard = Date.now();
      // Who is behind by more than a few blocks asks for what is in sight.
      const stream = new EventSource(`${this.liveUrl}?${this.query}&from_line=${this.next}&latest=${4 * BLOCK}`);
      this.stream = stream;
      const hear = (kind, act) => stream.addEventListener(kind, (event) => {
        if (stream !== this.stream) return;
        this.heard = Date.now();
        this.unreached = false;
        this.next = Number(event.lastEventId.split("-")[1]) || this.next;
        act(JSON.parse(event.data));
        this.state();
      });
      hear("alive", () => {});
      hear("lines", ({ lines, log }) => {
        this.heardOf++;
        lines.forEach((line) => this.put(line));
        this.learn(log);
        this.changed();
      });
      hear("end", (log) => {
        this.heardOf++;
        this.stop();
        this.settled = true;
        this.learn(log);
        this.changed();
        this.follow(false);
      });
      stream.addEventListener("error", () => {
        if (stream !== this.stream) return;
        this.unreached = true;
        this.state();
        // The browser comes back by itself, unless somebody between here and there answered for the coordinator.
        if (stream.readyState === EventSource.CLOSED) this.again(2000);
      });
      this.watch ??= setInterval(() => {
        if (this.stream && Date.now() - this.heard > SILENCE) this.live();
      }, SILENCE / 4);
    }

    again(ms) {
      clearTimeout(this.coming);
      this.coming = setTimeout(() => { if (!this.settled && this.wants) this.live(); }, ms);
    }

    get wants() { return !document.hidden; }

    stop() {
      clearTimeout(this.coming);
      clearInterval(this.watch);
      this.watch = undefined;
      this.stream?.close();
      this.stream = null;
    }

    /** A page that nobody sees holds no connection: a browser has few for one server. */
    shown(is) {
      if (this.settled) return;
      if (is && !this.stream) this.live();
      if (!is) this.stop();
    }

    follow(is) {
      is = is && !this.settled;
      this.following = is;
      this.press("follow", is);
      this.root.querySelector("[data-do=follow]").hidden = this.settled;
      if (is) this.toEnd();
      return is;
    }

    // Looking for something.

    forgetHits() {
      this.sought++;
      this.hits = [];
      this.hit = -1;
      this.hitLines = null;
      this.more = undefined;
      this.found.textContent = "";
      CSS.highlights?.delete("log-found");
      this.changed();
    }

    async seek(step) {
      const q = this.search.elements.q.value;
      if (!q) return;
      if (!this.hitLines) {
        const top = this.lineOf(this.anchor.row);
        await this.gather(q, 1, (hit) => hit.line >= top);
        return;
      }
      if (step > 0 && this.hit + 1 >= this.hits.length && this.more) {
        await this.gather(q, this.more, () => true);
        return;
      }
      if (this.hits.length) this.show((this.hit + step + this.hits.length) % this.hits.length);
    }

    /** Gathers hits from a line on, and shows the first that fits as soon as it is there. */
    async gather(q, from, fits) {
      const mine = ++this.sought;
      const { regex, case: capitals } = this.search.elements;
      const wanted = this.hits.length + HITS;
      this.hitLines ??= new Map();
      let shown = false;
      for (this.more = from; this.more && this.hits.length < wanted;) {
        this.found.textContent = `${grouped(this.hits.length)}… `;
        const how = new URLSearchParams({ q, regex: regex.checked, case: capitals.checked, from: this.more, limit: HITS });
        const answer = await fetch(`${this.api}/search?${this.query}&${how}`).catch(() => null);
        if (mine !== this.sought) return;
        const said = await answer?.json().catch(() => null);
        if (!answer?.ok) {
          this.found.textContent = said?.error ?? said?.detail ?? "the coordinator cannot be reached";
          // The next search begins anew, and finds the same lines again.
          [this.hits, this.hit, this.hitLines, this.more] = [[], -1, null, undefined];
          return;
        }
        const before = this.hits.length;
        for (const hit of said.hits) { this.hits.push(hit); this.hitLines.set(hit.line, hit.found); }
        this.more = said.next;
        const first = this.hits.findIndex((hit, place) => place >= before && fits(hit));
        if (!shown && first >= 0) { shown = true; this.show(first); }
      }
      if (!shown && this.hits.length) this.show(0);
      this.tellHits();
      this.changed();
    }

    show(place) {
      this.hit = place;
      this.goTo(this.hits[place].line);
      this.tellHits();
    }

    tellHits() {
      const count = `${grouped(this.hits.length)}${this.more ? "+" : ""}`;
      this.found.textContent = this.hits.length ? `${grouped(this.hit + 1)} of ${count}` : "not found";
      this.found.dataset.line = this.hits[this.hit]?.line ?? "";
    }

    // What the reader does.

    clicked(event) {
      const number = event.target.closest(".no");
      if (number && this.own) {
        event.preventDefault();
        return this.choose(Number(number.closest(".row").dataset.n), event.shiftKey);
      }
      const fold = event.target.closest("[data-fold]");
      if (fold) return this.fold(Number(fold.dataset.fold), fold.getAttribute("aria-expanded") === "true");
      switch (event.target.closest("[data-do]")?.dataset.do) {
        case "follow": return this.follow(!this.following);
        case "fold": return this.foldAll(!this.allFolded);
        case "times": return this.toggle("timed", "times");
        case "wrap": return this.toggle("wrapped", "wrap");
        case "copy": return this.copy();
        case "previous": return this.seek(-1);
      }
    }

    key(event) {
      if (event.target.name === "q" && event.key === "Enter" && event.shiftKey) {
        event.preventDefault();
        this.seek(-1);
      }
      if (event.target.name === "q" && event.key === "Escape") {
        event.target.value = "";
        this.forgetHits();
        this.view.focus();
      }
    }

    press(name, is) {
      this.root.querySelector(`[data-do=${name}]`).setAttribute("aria-pressed", String(is));
    }

    /** What the reader chose stays chosen in this browser. */
    remember(name, button) {
      let is = false;
      try { is = localStorage.getItem(`log-${name}`) === "yes"; } catch { /* a browser may forbid it */ }
      if (is) this.toggle(name, button);
    }

    toggle(name, button) {
      const is = this.root.classList.toggle(name);
      this.press(button, is);
      try { localStorage.setItem(`log-${name}`, is ? "yes" : "no"); } catch { /* as above */ }
      if (name === "wrapped") {
        this.wrapped = is;
        if (!is) this.typical = this.height;
        this.layOut();
      }
      this.version++;
      if (this.following) this.toEnd(); else this.sync();
    }

    choose(line, further) {
      const [first] = further && this.chosen ? this.chosen : [line];
      this.chosen = [Math.min(first, line), Math.max(first, line)];
      const [from, to] = this.chosen;
      history.replaceState(null, "", from === to ? `#L${from}` : `#L${from}-L${to}`);
      this.follow(false);
      this.changed();
    }

    goToHash() {
      const said = /^#L(\d+)(?:-L?(\d+))?$/.exec(location.hash);
      if (!said) return false;
      const [from, to] = [Number(said[1]), Number(said[2] ?? said[1])];
      this.chosen = [Math.min(from, to), Math.max(from, to)];
      this.goTo(this.chosen[0]);
      return true;
    }

    /** Copies the chosen lines, or all of a log that is not too long. */
    async copy() {
      const [from, to] = this.chosen ?? [1, this.total];
      if (to - from >= COPIED) {
        return this.state(`${grouped(COPIED)} lines can be copied at most; choose some by their numbers, or download it`);
      }
      const lines = [];
      try {
        for (let at = from; at <= to;) {
          const part = `from=${at}&count=${Math.min(2000, to - at + 1)}&format=text`;
          const answer = await fetch(`${this.api}/lines?${this.query}&${part}`);
          const said = await answer.json();
          if (!said.lines?.length) break;
          lines.push(...said.lines.map((line) => line.text));
          at = said.lines.at(-1).n + 1;
        }
        await this.toClipboard(lines.join("\n") + "\n");
        this.state(`${grouped(lines.length)} lines copied`);
      } catch {
        this.state("they could not be copied; the coordinator cannot be reached, or the browser forbids it");
      }
    }

    async toClipboard(text) {
      if (navigator.clipboard && window.isSecureContext) return navigator.clipboard.writeText(text);
      // Over plain http a browser gives no clipboard, but still copies what is selected.
      const area = element("textarea", "log-copied");
      area.value = text;
      this.root.append(area);
      area.select();
      const done = document.execCommand("copy");
      area.remove();
      if (!done) throw new Error("copy");
    }
  }

  const views = [];
  const begin = (within) => {
    for (const root of within.querySelectorAll(".log-part[data-lines]:not(.scripted)")) views.push(new LogView(root));
  };
  begin(document);
  // Parts of a page that come later.
  document.addEventListener("buildr:part", (event) => begin(event.target));
  document.addEventListener("visibilitychange", () => views.forEach((view) => view.shown(!document.hidden)));
  window.addEventListener("online", () => views.forEach((view) => view.stream && view.live()));
})();
