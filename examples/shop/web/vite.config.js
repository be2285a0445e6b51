import react from "@vitejs/plugin-react";
import { defineConfig } from "vite";

export default defineConfig({
  plugins: [react()],
  // Every asset as a file of its own, so that it can be cached for ever under its hashed name.
  build: { assetsInlineLimit: 0 },
});
