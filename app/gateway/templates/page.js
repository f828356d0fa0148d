(function () {
  var back = document.getElementById("back");
  if (!back) return;
  back.hidden = false;
  var hint = document.getElementById("close");
  if (hint) hint.hidden = true;
  back.addEventListener("click", function () {
    if (history.length > 1) history.back();
    else window.close();
  });
})();
