// Shows openapi.json with Swagger UI, in the colours that the system is set to.

const dark = matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();

window.ui = SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true, // the address names the open operation
  validatorUrl: null, // it would send the document elsewhere
  docExpansion: "list",
  defaultModelRendering: "model", // the fields first, an example when trying
  defaultModelExpandDepth: 2,
  defaultModelsExpandDepth: 0,
  displayRequestDuration: true,
});
