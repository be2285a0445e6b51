export const heading = "Harbour shop: the first stock";
