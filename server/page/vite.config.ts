/* Builds the page into one file, built/index.html: scripts, styles and fonts are in it, and it names its sources. */
import { createHash } from "node:crypto";
import { readFileSync, readdirSync } from "node:fs";
import { join, relative, sep } from "node:path";
import { defineConfig, type Plugin, type Rollup } from "vite";

const ROOT = import.meta.dirname;
const TOP = ["index.html", "package-lock.json", "package.json", "tsconfig.json", "vite.config.ts"];

/* A digest of all sources: tests/server/test_page.py computes it again, without Node. */
function digestOfSources(): string {
  const below = readdirSync(join(ROOT, "src"), { recursive: true, withFileTypes: true });
  const inside = below.filter((entry) => entry.isFile()).map((entry) => relative(ROOT, join(entry.parentPath, entry.name)));
  const names = [...TOP, ...inside.map((name) => name.split(sep).join("/"))].sort();
  const hash = createHash("sha256");
  for (const name of names) hash.update(`${name}\0`).update(readFileSync(join(ROOT, name))).update("\0");
  return hash.digest("hex");
}

/* KaTeX offers each font in three formats; every browser that runs this page reads the first, woff2. */
function woff2Only(): Plugin {
  return {
    name: "woff2-only",
    enforce: "pre",
    transform: (code, id) =>
      id.endsWith("katex.min.css") ? code.replace(/,url\([^)]*\.(woff|ttf)\) format\("\w+"\)/g, "") : null,
  };
}

/* Put the script and the styles into the page itself. */
function inline(): Plugin {
  return {
    name: "inline",
    enforce: "post",
    generateBundle: {
      order: "post",
      handler(_, bundle) {
        const source = wholePage(Object.values(bundle));
        for (const name of Object.keys(bundle)) if (!name.endsWith(".md")) delete bundle[name];
        this.emitFile({ type: "asset", fileName: "index.html", source });
      },
    },
  };
}

function wholePage(files: (Rollup.OutputAsset | Rollup.OutputChunk)[]): string {
  const scripts = files.flatMap((file) => (file.type === "chunk" ? [file.code] : []));
  const texts = (suffix: string) =>
    files.flatMap((file) => (file.type === "asset" && file.fileName.endsWith(suffix) ? [String(file.source)] : []));
  if (scripts.length !== 1) throw new Error(`one script was expected, not ${scripts.length}`);
  const script = scripts[0].trim().replace(/<\/(script)/gi, "<\\/$1").replace(/<!--/g, "<\\!--");
  const notice = "<!-- The licenses of the libraries in this file are in licenses.md beside it. -->";
  const head = `<meta name="sources" content="${digestOfSources()}">\n<style>${texts(".css").join("").trim()}</style>`;
  return texts(".html")[0]
    .replace(/\s*<script type="module"[^>]*><\/script>/, "")
    .replace(/\s*<link rel="stylesheet"[^>]*>/, "")
    .replace("</head>", () => `${notice}\n${head}\n</head>`)
    .replace("</body>", () => `<script type="module">${script}</script>\n</body>`);
}

export default defineConfig({
  root: ROOT,
  plugins: [woff2Only(), inline()],
  build: {
    outDir: "built",
    emptyOutDir: true,
    target: "es2022",
    assetsInlineLimit: Number.MAX_SAFE_INTEGER,
    cssCodeSplit: false,
    modulePreload: false,
    license: { fileName: "licenses.md" },
    chunkSizeWarningLimit: 4000,
  },
  server: { proxy: Object.fromEntries(["/v1", "/tokenize", "/docs"].map((path) => [path, "http://127.0.0.1:8000"])) },
});
