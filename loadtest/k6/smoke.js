import { optionsOf } from "./pipeline.js";

export const options = optionsOf("smoke");
export { batch, follow, single } from "./pipeline.js";
