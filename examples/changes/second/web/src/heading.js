export const heading = "Harbour shop: now counted";
