// Libraries that are no modules, each once and when it is first needed.
const loading = new Map();

export function script(file) {
  if (!loading.has(file)) {
    loading.set(
      file,
      new Promise((resolve, reject) => {
        const failed = (event) => (loading.delete(file), reject(event)); // tried again when it is wanted again
        document.head.append(Object.assign(document.createElement("script"), { src: file, onload: resolve, onerror: failed }));
      }),
    );
  }
  return loading.get(file);
}

export function styles(file) {
  if (document.querySelector(`link[href="${file}"]`)) return;
  document.head.append(Object.assign(document.createElement("link"), { rel: "stylesheet", href: file }));
}
