import { optionsOf } from "./pipeline.js";

export const options = optionsOf("load");
export { batch, follow, single } from "./pipeline.js";
