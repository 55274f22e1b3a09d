import { optionsOf } from "./pipeline.js";

export const options = optionsOf("stress");
export { batch, follow, single } from "./pipeline.js";
