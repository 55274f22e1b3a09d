import { optionsOf } from "./pipeline.js";

export const options = optionsOf("spike");
export { batch, follow, single } from "./pipeline.js";
