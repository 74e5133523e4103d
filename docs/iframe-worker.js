/* Browsers start no workers for pages that are opened from disk; there, the search runs in a hidden frame. */
if (location.protocol === "file:") {
  window.IFrameWorker = window.Worker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const page = frame.contentDocument;
      page.open();
      page.write("<!doctype html><body>");
      page.close();
      this.worker = frame.contentWindow;
      this.worker.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      this.loaded = new Promise((resolve) => {
        page.body.append(Object.assign(page.createElement("script"), { src: url, onload: resolve }));
      });
    }

    postMessage(data) {
      this.loaded.then(() => this.worker.dispatchEvent(new MessageEvent("message", { data })));
    }
  };
}
