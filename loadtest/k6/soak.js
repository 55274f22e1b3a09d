import { optionsOf } from "./pipeline.js";

export const options = optionsOf("soak");
export { batch, follow, single } from "./pipeline.js";
