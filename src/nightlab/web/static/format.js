// Numbers, times and other people's text, made fit to read: the rules of the debrief's words.

export const NOTHING = "—";

/** As many digits as the noise leaves: two significant digits of `sigma`; six where it is nil. */
export function number(value, sigma = null) {
  if (value === null || value === undefined || !Number.isFinite(value)) return NOTHING;
  if (!sigma || !Number.isFinite(sigma)) return tidy(value.toPrecision(6));
  const decimals = 1 - Math.floor(Math.log10(sigma));
  if (decimals > 8 && value) {
    return value.toExponential(Math.min(20, Math.max(0, Math.floor(Math.log10(Math.abs(value))) + decimals)));
  }
  const kept = Math.max(0, Math.min(decimals, 12));
  const grain = 10 ** -decimals;
  const rounded = decimals < 0 ? Math.round(value / grain) * grain : value;
  const text = rounded.toFixed(kept);
  return /^-0\.?0*$/.test(text) ? text.slice(1) : text.replace("-", "−");
}

function tidy(text) {
  const [mantissa, exponent] = text.split("e");
  const short = mantissa.includes(".") ? mantissa.replace(/\.?0+$/, "") : mantissa;
  return (exponent ? `${short}e${exponent}` : short).replace(/^-/, "−");
}

/** With its sign always shown. */
export function signed(value, sigma = null) {
  const text = number(value, sigma);
  return text === NOTHING || text.startsWith("−") ? text : `+${text}`;
}

/** "45 s", "3.2 min", "12.3 h", "2.1 days". */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return NOTHING;
  if (seconds < 60) return `${seconds.toFixed(seconds >= 10 ? 0 : 1)} s`;
  if (seconds < 3600) return `${(seconds / 60).toFixed(1)} min`;
  if (seconds < 2 * 86400) return `${(seconds / 3600).toFixed(1)} h`;
  return `${(seconds / 86400).toFixed(1)} days`;
}

export function bytes(count) {
  if (count === null || count === undefined) return NOTHING;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  let left = count;
  while (left >= 1024 && unit < units.length - 1) {
    left /= 1024;
    unit += 1;
  }
  return `${left.toFixed(left >= 100 || unit === 0 ? 0 : 1)} ${units[unit]}`;
}

const grouped = new Intl.NumberFormat("en");
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumSignificantDigits: 3 });

export const whole = (n) => (n === null || n === undefined ? NOTHING : grouped.format(n));
export const tokens = (n) => (n === null || n === undefined ? NOTHING : compact.format(n));
export const usd = (v) => (v === null || v === undefined ? NOTHING : `$${v.toFixed(v && v < 0.1 ? 4 : 2)}`);
export const count = (n, one, many = `${one}s`) => `${grouped.format(n)} ${n === 1 ? one : many}`;

const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const day = new Intl.DateTimeFormat(undefined, { month: "short", day: "numeric", hour: "2-digit", minute: "2-digit" });

/** A moment in the reader's own zone; the day where it is not today's. */
export function when(seconds) {
  if (!seconds) return NOTHING;
  const at = new Date(seconds * 1000);
  return (at.toDateString() === new Date().toDateString() ? clock : day).format(at);
}

/** "just now", "4 min ago", "3 h ago", else the moment. */
export function ago(seconds) {
  if (!seconds) return NOTHING;
  const past = Date.now() / 1000 - seconds;
  if (past < 45) return "just now";
  if (past < 3600) return `${Math.max(1, Math.round(past / 60))} min ago`;
  return past < 36000 ? `${Math.round(past / 3600)} h ago` : when(seconds);
}

// Format characters (bidirectional overrides, zero widths), lone surrogates, private and unassigned.
const UNSEEN = /[\p{Cf}\p{Cs}\p{Co}\p{Cn}]/gu;

/** Anyone's text on one line, without what controls or hides, at most `most` characters. */
export function line(text, most = 200) {
  const start = String(text ?? "").slice(0, 4 * most + 64).toWellFormed?.() ?? String(text ?? "");
  const flat = start.replace(UNSEEN, "").replace(/[\p{Cc}\p{Zl}\p{Zp}\s]+/gu, " ").trim();
  return flat.length <= most ? flat : `${flat.slice(0, most - 1).trimEnd()}…`;
}

/** Anyone's text of several lines: as it is, without what controls or hides. */
export function block(text, most = 200_000) {
  return String(text ?? "").slice(0, most).replace(UNSEEN, "").replace(/[^\P{Cc}\n\t]/gu, "");
}

const PURPOSES = {
  baseline: "calibration of the untouched code",
  screen: "first look",
  confirm: "a further look",
  incumbent: "the incumbent again, for comparison",
  check: "check",
  final: "finalization",
};
export const purpose = (word) => PURPOSES[word] ?? word;
export const words = (value) => String(value ?? "").replaceAll("_", " ");
