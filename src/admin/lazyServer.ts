/**
 * Listens before HTTP is there: the HTTP machinery (its module, routes, metrics) is loaded at the first connection, so
 * it neither delays the start of workers nor takes memory of a controller that nobody asks.
 */
import type { Server as HttpServer } from "node:http";
import { createServer, type Server, type Socket } from "node:net";

/** More clients at once are turned away by closing their connection. */
const MAX_CONNECTIONS = 256;

/** A listener whose connections are served by what `create` makes, once. */
export class LazyServer {
  /** To listen with. */
  readonly listener: Server;
  readonly #create: () => Promise<HttpServer>;
  #http: Promise<HttpServer> | undefined;

  constructor(create: () => Promise<HttpServer>) {
    this.#create = create;
    this.listener = createServer({ noDelay: true }, (socket) => void this.#serve(socket));
    this.listener.maxConnections = MAX_CONNECTIONS;
  }

  /** Ends all connections and the listener. */
  close(): void {
    this.listener.close();
    void this.#http?.then((server) => {
      server.close();
      server.closeAllConnections();
    });
  }

  async #serve(socket: Socket): Promise<void> {
    // Until HTTP takes over, an error must have a listener.
    const ignore = () => {};
    socket.on("error", ignore);
    this.#http ??= this.#create();
    const server = await this.#http;
    socket.off("error", ignore);
    server.emit("connection", socket);
  }
}
