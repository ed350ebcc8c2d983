// Swagger UI over this host's own description; its validator, which asks another host, stays off.
"use strict";
const dark = matchMedia("(prefers-color-scheme: dark)");
const follow = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", follow);
follow();
SwaggerUIBundle({
  url: "/openapi.json",
  dom_id: "#reference",
  deepLinking: true,
  validatorUrl: null,
  displayRequestDuration: true,
  tryItOutEnabled: true,
  defaultModelsExpandDepth: 0,
  // The page has its main part already; a second one would mislead a screen reader.
  onComplete: () => document.querySelector("#reference main")?.setAttribute("role", "presentation"),
});
