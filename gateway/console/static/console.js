// A page whose session is over, or whose console went away, finds the way by itself: to the sign-in page, or back.
setInterval(async () => {
  if (!window.socket || window.socket.connected) return;
  const answer = await fetch("/me", { redirect: "manual", cache: "no-store" }).catch(() => null);
  if (answer && answer.type === "opaqueredirect") window.location.assign("/sign-in");
  else if (answer && answer.ok) window.socket.connect();
}, 3000);
