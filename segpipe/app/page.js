// Sliders of the pictures, and scrolling to the top: Streamlit keeps the scroll position when the view changes.
if (!window.segpipePage) {
  window.segpipePage = true;
  document.addEventListener("input", ({ target }) => {
    const viewer = target.closest(".viewer");
    if (viewer) {
      viewer.style.setProperty("--value", target.value);
      viewer.querySelector("output").textContent = `${target.value} %`;
    }
  });
  document.addEventListener("click", ({ target }) => {
    if (target.closest(".st-key-start button, .st-key-turn button, [class*=st-key-card-] button")) {
      document.querySelector("[data-testid=stMain]").scrollTo(0, 0);
    }
  });
}
