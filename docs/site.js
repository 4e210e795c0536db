// What scrolls can be reached by the keyboard, too.
document.addEventListener("DOMContentLoaded", () => {
  for (const box of document.querySelectorAll(".bd-article :is(.pst-scrollable-table-container, .output, pre)"))
    if (box.scrollWidth > box.clientWidth) box.tabIndex = 0;
});
