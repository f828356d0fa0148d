// Keeps the message list fresh. A list that the reader is moving through with the keyboard is left alone.
const list = document.getElementById("list");
if (list) {
  const refresh = async () => {
    try {
      const answer = await fetch(list.dataset.refresh, { cache: "no-store" });
      if (answer.ok) {
        const text = await answer.text();
        if (text !== list.dataset.shown && !list.contains(document.activeElement)) {
          list.innerHTML = text;
          list.dataset.shown = text;
        }
      }
    } catch {
      // The emulator is being restarted: the next round finds it again.
    } finally {
      setTimeout(refresh, 2000);
    }
  };
  setTimeout(refresh, 2000);
}
