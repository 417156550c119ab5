/** For checkpoints of trackers that need nothing of earlier points. */
export async function recall(): Promise<undefined> {}
