// A page whose session is over, or whose console went away, finds the way by itself: to the sign-in page, or back.
setInterval(async () => {
  if (!window.socket || window.socket.connected) return;
  const answer = await fetch("/me", { redirect: "manual", cache: "no-store" }).catch(() => null);
  if (answer && answer.type === "opaqueredirect") window.location.assign("/sign-in");
  else if (answer && answer.ok) window.socket.connect();
}, 3000);

// A file of complaints goes as it is: it is read as it comes, and never held whole on either side.
document.addEventListener("submit", async (event) => {
  const form = event.target;
  if (form.id !== "upload") return;
  event.preventDefault();
  const told = document.getElementById("outcome-said");
  const lines = document.getElementById("outcome-lines");
  const words = document.getElementById("sending").dataset;
  const button = form.querySelector("button");
  const given = new FormData(form);
  const where = new URLSearchParams({ mapping: given.get("mapping"), encoding: given.get("encoding"), columns: given.get("columns") });
  button.disabled = true;
  lines.replaceChildren();
  told.textContent = words.sending;
  const post = { method: "POST", body: given.get("file"), redirect: "manual", headers: { "content-type": "text/csv" } };
  const answer = await fetch(`${form.getAttribute("action")}?${where}`, post).catch(() => null);
  const said = answer && answer.type !== "opaqueredirect" ? await answer.json().catch(() => null) : null;
  button.disabled = false;
  told.textContent = said ? said.said : words.broken;
  for (const line of said ? [said.matched, ...(said.rejects || [])].filter(Boolean) : []) {
    const item = document.createElement("li");
    item.textContent = line;
    lines.append(item);
  }
});
